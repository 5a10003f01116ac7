pub struct B {
    pub name: &'static str,
    pub about: &'static str,
}
pub const ALL: &[B] = &[];
pub struct ScaleResults;
impl ScaleResults {
    pub fn text(&self) -> String {
        String::new()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    pub fn curves(
        &self,
    ) -> Vec<(&'static str, &'static str, &'static str, Vec<(String, Vec<(f64, f64)>)>)> {
        vec![]
    }
}
pub fn run(
    _: &crate::arguments::Options,
    _: &crate::measure::Stage,
) -> std::io::Result<ScaleResults> {
    todo!()
}
pub fn run_here(_: &str, _: &str, _: usize) -> std::io::Result<()> {
    todo!()
}

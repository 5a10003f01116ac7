pub struct B {
    pub name: &'static str,
    pub about: &'static str,
}
pub const ALL: &[B] = &[];
pub struct MicroResults;
impl MicroResults {
    pub fn text(&self) -> String {
        String::new()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    pub fn bars(&self) -> Vec<(&'static str, &'static str, Vec<(String, f64)>)> {
        vec![]
    }
}
pub fn run(_: &crate::arguments::Options) -> std::io::Result<MicroResults> {
    todo!()
}
pub fn run_here(_: &str, _: &str) -> std::io::Result<()> {
    todo!()
}

//! Plots as SVG, by hand: lines over an axis, and bars.

use std::fmt::Write;

use super::short;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

const COLOURS: [&str; 12] = [
    "#d62728", "#ff9896", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
    "#bcbd22", "#17becf", "#ff7f0e", "#3b3b98",
];

pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
pub struct Axis {
    pub label: &'static str,
    pub is_logarithmic: bool,
    /// Of the values 0, 1, 2, ...; where empty, they are numbers.
    pub names: &'static [&'static str],
}

impl Axis {
    pub const fn linear(label: &'static str) -> Axis {
        Axis { label, is_logarithmic: false, names: &[] }
    }

    pub const fn logarithmic(label: &'static str) -> Axis {
        Axis { label, is_logarithmic: true, names: &[] }
    }

    fn ticks(&self, scale: &Scale) -> Vec<(f64, String)> {
        if self.names.is_empty() {
            return scale.ticks().into_iter().map(|tick| (tick, short(tick))).collect();
        }
        let names = self.names.iter().enumerate();
        names.map(|(index, name)| (index as f64, name.to_string())).collect()
    }
}

/// A range of values on so many units of the picture.
struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, is_logarithmic: bool) -> Option<Scale> {
        let values: Vec<f64> =
            values.filter(|value| value.is_finite() && (!is_logarithmic || *value > 0.0)).collect();
        let high = values.iter().copied().reduce(f64::max)?;
        let low = values.iter().copied().reduce(f64::min)?;
        // Without a logarithm, zero belongs into the picture.
        let low = if is_logarithmic { low } else { low.min(0.0) };
        let high = match high > low {
            true => high,
            false if is_logarithmic => low * 10.0,
            false => low + 1.0,
        };
        Some(Scale { low, high, is_logarithmic })
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.is_logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let powers = self.low.log10().ceil() as i32..=self.high.log10().floor() as i32;
            let ticks: Vec<f64> = powers.map(|power| 10_f64.powi(power)).collect();
            return if ticks.len() > 1 { ticks } else { vec![self.low, self.high] };
        }
        (0..=4).map(|part| self.low + (self.high - self.low) * f64::from(part) / 4.0).collect()
    }
}

/// How the line with this index is drawn. Where the colours are used up, it is dashed.
fn pen(index: usize) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    let dashes = if index < COLOURS.len() { "" } else { " stroke-dasharray='5 3'" };
    format!("stroke='{colour}'{dashes}")
}

/// Nothing where there are no points.
pub fn lines(title: &str, x: Axis, y: Axis, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| series.points.iter());
    let x_scale = Scale::over(points().map(|point| point.0), x.is_logarithmic);
    let y_scale = Scale::over(points().map(|point| point.1), y.is_logarithmic);
    let (Some(x_scale), Some(y_scale)) = (x_scale, y_scale) else { return String::new() };
    let at_x = |value| LEFT + x_scale.place(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value| HEIGHT - BOTTOM - y_scale.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut out = open(title, HEIGHT);
    let (floor, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (tick, label) in y.ticks(&y_scale) {
        let y = at_y(tick);
        let _ = write!(out, "<path class='grid' d='M{LEFT} {y:.1}H{right}'/>");
        let at = LEFT - 6.0;
        let _ = write!(out, "<text x='{at}' y='{y:.1}' dy='4' text-anchor='end'>{label}</text>");
    }
    for (tick, label) in x.ticks(&x_scale) {
        let (x, under) = (at_x(tick), floor + 16.0);
        let _ = write!(out, "<path class='grid' d='M{x:.1} {TOP}V{floor}'/>");
        let _ = write!(out, "<text x='{x:.1}' y='{under}' text-anchor='middle'>{label}</text>");
    }
    let (middle, bottom) = ((LEFT + right) / 2.0, HEIGHT - 6.0);
    let label = x.label;
    let _ = write!(out, "<text x='{middle}' y='{bottom}' text-anchor='middle'>{label}</text>");
    let _ = write!(out, "<text x='4' y='{}'>{}</text>", TOP - 8.0, y.label);
    for (index, series) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let drawn: Vec<(f64, f64)> = series
            .points
            .iter()
            .filter(|point| point.1.is_finite())
            .map(|point| (at_x(point.0), at_y(point.1)))
            .collect();
        let path: Vec<String> = drawn.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let path = path.join("L");
        let _ = write!(out, "<path class='line' {} d='M{path}'/>", pen(index));
        for (x, y) in drawn {
            let _ = write!(out, "<circle cx='{x:.1}' cy='{y:.1}' r='2.5' fill='{colour}'/>");
        }
        out.push_str(&key(index, right + 14.0, &series.name));
    }
    out + "</svg>\n"
}

/// One bar for each value.
pub fn bars(title: &str, unit: &str, values: &[(String, f64)]) -> String {
    const ROW: f64 = 20.0;
    let Some(scale) = Scale::over(values.iter().map(|value| value.1), false) else {
        return String::new();
    };
    let (left, height) = (170.0, TOP + ROW * values.len() as f64 + 10.0);
    let mut out = open(&format!("{title} ({unit})"), height);
    for (index, (name, value)) in values.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let width = scale.place(*value) * (WIDTH - left - 80.0);
        let (colour, text, label) = (COLOURS[index % COLOURS.len()], y + 12.0, short(*value));
        let (end, name) = (left - 6.0, escape(name));
        let _ = write!(out, "<text x='{end}' y='{text}' text-anchor='end'>{name}</text>");
        let _ = write!(
            out,
            "<rect x='{left}' y='{y}' width='{width:.1}' height='15' fill='{colour}'/>\
             <text x='{:.1}' y='{text}'>{label}</text>",
            left + width + 5.0
        );
    }
    out + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role='img'>\
         <title>{title}</title><text class='title' x='{LEFT}' y='12'>{title}</text>"
    )
}

/// A name beside the plot, in its line's colour.
fn key(index: usize, x: f64, name: &str) -> String {
    let (pen, y) = (pen(index), TOP + 2.0 + 15.5 * index as f64);
    let (text, name) = (x + 20.0, escape(name));
    format!(
        "<path class='line' {pen} d='M{x} {y}h16'/>\
         <text x='{text}' y='{y}' dy='4'>{name}</text>"
    )
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_scale_places_by_ratio() {
        let scale = Scale::over([1.0, 100.0].into_iter(), true).unwrap();
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn a_linear_scale_begins_at_zero() {
        let scale = Scale::over([5.0, 10.0].into_iter(), false).unwrap();
        assert_eq!((scale.place(0.0), scale.place(5.0), scale.place(10.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn nothing_is_drawn_of_nothing_and_names_are_escaped() {
        let axis = Axis::linear("x");
        assert_eq!(lines("t", axis, axis, &[]), "");
        assert_eq!(bars("t", "ns", &[]), "");
        assert!(bars("a<b", "ns", &[("c&d".into(), 1.0)]).contains("a&lt;b"));
    }
}

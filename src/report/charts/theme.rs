//! Turns plotters' SVG into a part of the page: it scales with its box, takes colours and fonts from the style
//! sheet, and tells assistive software what it shows.

use super::ink::Ink;

/// plotters' attributes that the style sheet decides instead.
const STYLED: [&str; 5] = ["font-family", "font-size", "opacity", "stroke-width", "xmlns"];

/// The drawing with its placeholder colours as classes; `id` must be unique on the page.
pub(super) fn themed(raw: &str, id: &str, title: &str, description: &str) -> String {
    let mut svg = String::with_capacity(raw.len());
    for line in raw.lines() {
        match line.strip_prefix("<svg ") {
            Some(attributes) => {
                let view_box = value_of(attributes, "viewBox").unwrap_or_default();
                svg += &format!(
                    "<svg class=\"chart\" viewBox=\"{view_box}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\n\
                     <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-text\">{}</desc>\n",
                    escaped(title),
                    escaped(description)
                );
            }
            None if line.starts_with('<') && !line.starts_with("</") => {
                svg += &themed_tag(line);
                svg.push('\n');
            }
            None => {
                svg += line;
                svg.push('\n');
            }
        }
    }
    svg
}

/// One tag: placeholder colours become a class, fixed style goes.
fn themed_tag(tag: &str) -> String {
    let mut themed = String::with_capacity(tag.len());
    let mut rest = tag;
    // Attributes are the pairs `name="…"`; a quote inside a value is an entity, so the next quote ends it.
    while let Some((before, after)) = rest.split_once("=\"") {
        let Some((value, tail)) = after.split_once('"') else { break };
        let (lead, name) = before.rsplit_once(' ').unwrap_or(("", before));
        themed += lead;
        match (name, Ink::ALL.into_iter().find(|ink| ink.placeholder_text() == value)) {
            ("fill" | "stroke", Some(ink)) => themed += &format!(" class=\"{}\"", ink.class()),
            ("fill" | "stroke", None) if value == "none" => {}
            (styled, _) if STYLED.contains(&styled) => {}
            _ => themed += &format!(" {name}=\"{}\"", value.trim_end()),
        }
        rest = tail;
    }
    themed + rest
}

fn value_of<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = attributes.split_once(&format!("{name}=\""))?;
    after.split_once('"').map(|(value, _)| value)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plotters_colours_and_fonts_become_classes() {
        let grid = Ink::Grid.placeholder_text();
        let tick = Ink::Tick.placeholder_text();
        let raw = format!(
            "<svg width=\"100\" height=\"50\" viewBox=\"0 0 100 50\" xmlns=\"http://www.w3.org/2000/svg\">\n\
             <polyline fill=\"none\" opacity=\"1\" stroke=\"{grid}\" stroke-width=\"1\" points=\"1,2 3,4 \"/>\n\
             <text x=\"1\" y=\"2\" dy=\"0.5ex\" text-anchor=\"end\" font-family=\"sans-serif\" font-size=\"9.6\" opacity=\"1\" fill=\"{tick}\">\n\
             5 ms &lt; p99\n</text>\n</svg>\n"
        );
        let expected = "<svg class=\"chart\" viewBox=\"0 0 100 50\" role=\"img\" aria-labelledby=\"t-title t-text\">\n\
             <title id=\"t-title\">A &amp; B</title>\n<desc id=\"t-text\">1 &lt; 2</desc>\n\
             <polyline class=\"grid\" points=\"1,2 3,4\"/>\n\
             <text x=\"1\" y=\"2\" dy=\"0.5ex\" text-anchor=\"end\" class=\"tick\">\n\
             5 ms &lt; p99\n</text>\n</svg>\n";
        assert_eq!(themed(&raw, "t", "A & B", "1 < 2"), expected);
    }

    #[test]
    fn the_style_sheet_knows_every_role() {
        let style = include_str!("../html/style.css");
        for ink in Ink::ALL {
            assert!(style.contains(&format!(".{}", ink.class())), "no style for .{}", ink.class());
        }
    }

    #[test]
    fn every_role_has_its_own_placeholder_and_class() {
        for (index, ink) in Ink::ALL.into_iter().enumerate() {
            for other in &Ink::ALL[index + 1..] {
                assert_ne!(ink.placeholder_text(), other.placeholder_text());
                assert_ne!(ink.class(), other.class());
            }
        }
    }
}

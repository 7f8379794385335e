//! Placeholders: the parts of a request that differ from arrival to arrival, written `{org}` in a scenario's texts.
//!
//! A [`Template`] is parsed once, when the scenario is checked, and again by `load`, which renders it for each arrival.
//! `{{` and `}}` are literal braces. This module knows names and syntax, never values.

use std::fmt;
use std::str::FromStr;

use super::nearest::nearest;

/// A value that the load generator puts in, computed from the seed and the arrival alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `{org}`: number of the organisation that the arrival is for, drawn by `population.busy`.
    Org,
    /// `{property}`: UUID of one of that organisation's properties.
    Property,
    /// `{amount}`: an amount of money, in whole cents, above zero.
    Amount,
    /// `{category}`: category of a revenue or an expense.
    Category,
    /// `{date}`: a day for a new entry, `YYYY-MM-DD`, UTC.
    Date,
    /// `{uuid}`: a UUID that no other arrival of the run has; the same at every place in one request.
    Uuid,
    /// `{month_start}`: first day of the current month, `YYYY-MM-DD`, UTC.
    MonthStart,
    /// `{arrival}`: number of the arrival within the run, from 0.
    Arrival,
}

impl Placeholder {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 8] = [
        Self::Org,
        Self::Property,
        Self::Amount,
        Self::Category,
        Self::Date,
        Self::Uuid,
        Self::MonthStart,
        Self::Arrival,
    ];

    /// The name as written between braces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Property => "property",
            Self::Amount => "amount",
            Self::Category => "category",
            Self::Date => "date",
            Self::Uuid => "uuid",
            Self::MonthStart => "month_start",
            Self::Arrival => "arrival",
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

impl FromStr for Placeholder {
    type Err = TemplateError;

    /// Parses a name without its braces.
    fn from_str(name: &str) -> Result<Self, TemplateError> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| TemplateError::Unknown { name: name.to_owned(), remedy: remedy(name) })
    }
}

/// What to write instead of an unknown placeholder.
fn remedy(name: &str) -> String {
    match nearest(name, Placeholder::ALL.map(Placeholder::name)) {
        Some(known) => format!("did you mean {{{known}}}?"),
        None => {
            let known = Placeholder::ALL.map(|known| known.to_string()).join(", ");
            format!("known are {known}; a literal brace is written twice")
        }
    }
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No placeholder has this name.
    #[error("unknown placeholder {{{name}}}; {remedy}")]
    Unknown {
        /// As found between the braces.
        name: String,
        /// The nearest known one, or all of them.
        remedy: String,
    },
    /// A brace was opened and never closed.
    #[error("unclosed brace before {rest:?}: expected {{name}}, or {{{{ for a literal brace")]
    Unclosed {
        /// What follows the brace.
        rest: String,
    },
    /// A brace was closed that was never opened.
    #[error("stray closing brace after {before:?}: a literal brace is written }}}}")]
    Stray {
        /// What stands before the brace.
        before: String,
    },
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Sent as it is, escapes already resolved; never empty, never beside another literal.
    Literal(String),
    /// Replaced by a value for each arrival.
    Placeholder(Placeholder),
}

/// A text with placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Parses a text as written in a scenario; every problem of the text at once.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateError>> {
        let mut parser = Parser::default();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            parser.literal.push_str(&rest[..at]);
            rest = parser.brace(&text[..text.len() - rest.len() + at], &rest[at..]);
        }
        parser.literal.push_str(rest);
        parser.end_literal();
        if parser.errors.is_empty() {
            Ok(Self { pieces: parser.pieces })
        } else {
            Err(parser.errors)
        }
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The placeholder that is the whole text, if it is one and nothing else.
    pub fn sole_placeholder(&self) -> Option<Placeholder> {
        match self.pieces[..] {
            [Piece::Placeholder(placeholder)] => Some(placeholder),
            _ => None,
        }
    }

    /// Appends the text to `out`; `value` appends what stands for a placeholder.
    pub fn render_into(&self, out: &mut String, mut value: impl FnMut(Placeholder, &mut String)) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Placeholder(placeholder) => value(*placeholder, out),
            }
        }
    }
}

/// Prints the template as a scenario writes it: parsing what is printed gives the same template.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Placeholder(placeholder) => placeholder.fmt(f),
        })
    }
}

/// What has been read of a template so far.
#[derive(Default)]
struct Parser {
    pieces: Vec<Piece>,
    literal: String,
    errors: Vec<TemplateError>,
}

impl Parser {
    /// Takes the brace at the start of `rest`, and what belongs to it; returns what follows.
    fn brace<'t>(&mut self, before: &str, rest: &'t str) -> &'t str {
        for (escape, brace) in [("{{", '{'), ("}}", '}')] {
            if let Some(after) = rest.strip_prefix(escape) {
                self.literal.push(brace);
                return after;
            }
        }
        if let Some(after) = rest.strip_prefix('}') {
            self.errors.push(TemplateError::Stray { before: before.to_owned() });
            return after;
        }
        let inside = &rest[1..];
        match inside.find(['{', '}']) {
            Some(end) if inside[end..].starts_with('}') => {
                self.placeholder(&inside[..end]);
                &inside[end + 1..]
            }
            _ => {
                self.errors.push(TemplateError::Unclosed { rest: inside.to_owned() });
                inside
            }
        }
    }

    fn placeholder(&mut self, name: &str) {
        self.end_literal();
        match name.parse() {
            Ok(placeholder) => self.pieces.push(Piece::Placeholder(placeholder)),
            Err(error) => self.errors.push(error),
        }
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn errors(text: &str) -> Vec<String> {
        Template::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_text_splits_into_literals_and_placeholders() {
        let template = Template::parse("/v1/orgs/{org}/cash?from={month_start}").unwrap();
        let expected = [
            Piece::Literal("/v1/orgs/".into()),
            Piece::Placeholder(Placeholder::Org),
            Piece::Literal("/cash?from=".into()),
            Piece::Placeholder(Placeholder::MonthStart),
        ];
        assert_eq!(template.pieces(), expected);
    }

    #[test]
    fn double_braces_are_literal() {
        let template = Template::parse("{{org}} {{{org}}}").unwrap();
        let mut out = String::new();
        template.render_into(&mut out, |_, out| out.push('7'));
        assert_eq!(out, "{org} {7}");
    }

    #[test]
    fn a_sole_placeholder_is_recognised() {
        let sole = |text| Template::parse(text).unwrap().sole_placeholder();
        assert_eq!(sole("{amount}"), Some(Placeholder::Amount));
        assert_eq!(sole("{amount} "), None);
        assert_eq!(sole("{{amount}}"), None);
        assert_eq!(sole(""), None);
    }

    #[test]
    fn every_problem_is_told_with_a_remedy() {
        insta::assert_debug_snapshot!(errors("/{orgs}/{colour}/}/{property/"), @r#"
        [
            "unknown placeholder {orgs}; did you mean {org}?",
            "unknown placeholder {colour}; known are {org}, {property}, {amount}, {category}, {date}, {uuid}, {month_start}, {arrival}; a literal brace is written twice",
            "stray closing brace after \"/{orgs}/{colour}/\": a literal brace is written }}",
            "unclosed brace before \"property/\": expected {name}, or {{ for a literal brace",
        ]
        "#);
    }

    fn any_piece() -> impl Strategy<Value = String> {
        let placeholder = prop::sample::select(Placeholder::ALL.to_vec());
        let literal = "[a-z/{}ü \"]{1,6}".prop_map(|s| s.replace('{', "{{").replace('}', "}}"));
        prop_oneof![placeholder.prop_map(|p| p.to_string()), literal]
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(pieces in prop::collection::vec(any_piece(), 0..8)) {
            let text = pieces.concat();
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.to_string(), text);
            prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
        }

        #[test]
        fn rendering_placeholders_as_themselves_only_resolves_escapes(text in "[a-z{}/ü]{0,24}") {
            if let Ok(template) = Template::parse(&text) {
                let mut out = String::new();
                template.render_into(&mut out, |placeholder, out| out.push_str(&placeholder.to_string()));
                prop_assert_eq!(out, text.replace("{{", "{").replace("}}", "}"));
            }
        }
    }
}

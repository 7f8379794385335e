//! What may stand in `[[operation]]`: what is sent, how often, and what is a good answer.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::model::{Expect, Method, Operation, RequestSpec};
use super::placeholder::Template;
use super::reader::{Item, TableReader, read_all};

/// Sent with every event: its value is the command's id.
const COMMAND_HEADER: &str = "idempotency-key";

pub(super) fn read_list(item: Item<'_>) -> Option<Vec<Operation>> {
    let tables = item.list("one or more [[operation]] tables")?;
    if tables.len() == 0 {
        return item.refuse("expected one or more [[operation]] tables");
    }
    let mut lines_of_names = BTreeMap::new();
    read_all(tables, |item| item.table("[[operation]]", |table| read(table, &mut lines_of_names)))
}

/// `lines_of_names` holds the names of the operations before this one, with their lines.
fn read(
    table: &mut TableReader<'_>,
    lines_of_names: &mut BTreeMap<String, usize>,
) -> Option<Operation> {
    let name = table
        .required("name", r#"name = "record revenue""#, |item| read_name(item, lines_of_names));
    let service = table.optional("service", |item| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        item.text_if("a name in small letters, digits and hyphens", |text| {
            !text.is_empty() && text.chars().all(allowed)
        })
    });
    let rate = table.required("rate", r#"rate = "500/s""#, |item| item.quantity());
    let event = table.or("event", false, |item| item.flag());
    let request = table.required("request", r#"request = { path = "/v1/orgs/{org}" }"#, |item| {
        item.table("request", |table| read_request(table, event == Some(true)))
    });
    let default = Expect { status: vec![200], body_contains: None };
    let expect = table.or("expect", default, |item| item.table("expect", read_expect));
    Some(Operation {
        name: name?,
        service: service?,
        rate: rate?,
        request: request?,
        expect: expect?,
        event: event?,
    })
}

fn read_name(item: Item<'_>, lines_of_names: &mut BTreeMap<String, usize>) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-');
    let expected =
        "1 to 60 letters, digits, spaces and hyphens, with none of the latter two at an end";
    let name = item.text_if(expected, |text| {
        let ends = text.starts_with([' ', '-']) || text.ends_with([' ', '-']);
        (1..=60).contains(&text.len()) && text.chars().all(allowed) && !ends
    })?;
    match lines_of_names.insert(name.clone(), item.line()) {
        None => Some(name),
        Some(line) => {
            item.refuse(format_args!("the operation on line {line} has this name already"))
        }
    }
}

fn read_request(table: &mut TableReader<'_>, is_event: bool) -> Option<RequestSpec> {
    let words = [
        ("GET", Method::Get),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("HEAD", Method::Head),
    ];
    let method = table.or("method", Method::Get, |item| item.word(&words));
    let path = table.required("path", r#"path = "/v1/orgs/{org}""#, read_path);
    let headers = table.or("headers", BTreeMap::new(), |item| {
        let headers = item.entries("a table of header names and their values")?;
        read_all(headers, |item| read_header(item, is_event))
    });
    let json = table.optional("json", |item| match method {
        Some(Method::Get | Method::Head) => item.refuse("a GET or HEAD request has no body"),
        _ => read_json(item),
    });
    Some(RequestSpec { method: method?, path: path?, headers: headers?, json: json? })
}

fn read_path(item: Item<'_>) -> Option<String> {
    let path = item
        .text_if("a path and query beginning with /, like \"/v1/orgs/{org}\"", |path| {
            path.starts_with('/')
        })?;
    let plain = path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>'));
    check_template(item, &path)?;
    match plain {
        true => Some(path),
        false => item.refuse(
            "expected no space and nothing but plain ASCII; write others as %20 and the like",
        ),
    }
}

fn read_header(item: Item<'_>, is_event: bool) -> Option<(String, String)> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let name = item.key();
    if name.is_empty() || !name.chars().all(token) {
        return item.refuse("expected a header name of letters, digits and hyphens");
    }
    if is_event && name.eq_ignore_ascii_case(COMMAND_HEADER) {
        return item.refuse("an event sends its command id in this header; leave it out");
    }
    if ["Authorization", "Proxy-Authorization"]
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret))
    {
        return item.refuse_unseen(
            "what is written here would be kept with every run; leave it out, and name the variable that holds \
             the token in target.bearer_token_env (the reference target makes its own tokens)",
        );
    }
    let value = item.text_if("a text of printable ASCII", |text| {
        text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
    })?;
    check_template(item, &value)?;
    Some((name.to_owned(), value))
}

/// Records every problem of a text with placeholders.
fn check_template(item: Item<'_>, text: &str) -> Option<()> {
    match Template::parse(text) {
        Ok(_) => Some(()),
        Err(errors) => {
            for error in errors {
                item.refuse::<()>(error);
            }
            None
        }
    }
}

fn read_json(item: Item<'_>) -> Option<Json> {
    match item.value() {
        DeValue::String(text) => {
            check_template(item, text)?;
            Some(Json::from(text.as_ref()))
        }
        DeValue::Boolean(flag) => Some(Json::from(*flag)),
        DeValue::Integer(_) => item.integer(i64::MIN..=i64::MAX).map(Json::from),
        DeValue::Float(_) => item.number("a finite number", |_| true).map(Json::from),
        DeValue::Array(_) => read_all(item.list("a list")?, read_json).map(Json::Array),
        DeValue::Table(_) => {
            let members = item.entries("a table")?;
            let members = read_all(members, |item| Some((item.key().to_owned(), read_json(item)?)));
            members.map(Json::Object)
        }
        DeValue::Datetime(_) => item.refuse("JSON has no dates; write it as a text, in quotes"),
    }
}

fn read_expect(table: &mut TableReader<'_>) -> Option<Expect> {
    let status = table.or("status", vec![200], read_statuses);
    let body_contains = table.optional("body_contains", |item| {
        item.text_if("a text that is not empty", |text| !text.is_empty())
    });
    Some(Expect { status: status?, body_contains: body_contains? })
}

fn read_statuses(item: Item<'_>) -> Option<Vec<u16>> {
    let read_one = |item: Item<'_>| item.integer(100..=599);
    if item.value().is_integer() {
        return read_one(item).map(|status| vec![status]);
    }
    const EXPECTED: &str = "a status code or a list of them, like 201 or [200, 404]";
    let statuses: Vec<u16> = read_all(item.list(EXPECTED)?, read_one)?;
    let repeated = statuses.iter().enumerate().any(|(i, status)| statuses[..i].contains(status));
    match statuses.is_empty() || repeated {
        true => item.refuse(format_args!("expected {EXPECTED}, none twice")),
        false => Some(statuses),
    }
}

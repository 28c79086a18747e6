//! The grammar of calls whose parameters stand in tags.

use serde_json::{Map, Value as Json, json};

use super::grammar::{Grammar, TEXT, arguments_schema, literal, supported};
use super::typed::is_text;
use crate::constrain::Constraint;
use crate::error::Result;

/// A rule for the call of each function.
///
/// # Errors
/// As [`Constraint::rules`].
pub(super) fn rules(grammar: &mut Grammar<'_>) -> Result<()> {
    // The value of a text ends at the first of these tags. A complement alone would have the
    // bytes of control tokens, too.
    let tags = r"/(.|\n)*(<parameter=|<\/parameter>|<\/function>)(.|\n)*/";
    grammar.rule("VALUE", &format!("~({tags}) & {TEXT}"));
    for (index, tool) in grammar.tools.clone().into_iter().enumerate() {
        let schema = arguments_schema(tool);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .map(|names| names.iter().filter_map(Json::as_str).collect())
            .unwrap_or_default();
        let none = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let mut all = String::new();
        for (place, (name, one)) in properties.iter().enumerate() {
            let rule = format!("parameter_{index}_{place}");
            parameter(grammar, &rule, name, one, &schema)?;
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            all.push_str(&format!(" {rule}{optional}"));
        }
        let head = literal(&format!("<function={}>\n", tool.name()));
        grammar.rule(&format!("function_{index}"), &format!("{head}{all} \"</function>\""));
    }
    Ok(())
}

fn parameter(
    grammar: &mut Grammar<'_>,
    rule: &str,
    name: &str,
    schema: &Json,
    root: &Json,
) -> Result<()> {
    let head = literal(&format!("<parameter={name}>\n"));
    let end = "\"\\n</parameter>\\n\"";
    let texts = schema.get("enum").and_then(Json::as_array);
    let texts: Option<Vec<&str>> = texts.and_then(|all| all.iter().map(Json::as_str).collect());
    let value = match texts {
        Some(texts) if !texts.is_empty() => {
            let texts: Vec<String> = texts.into_iter().map(literal).collect();
            Some(format!("({})", texts.join(" | ")))
        }
        _ if is_text(schema, root) => None,
        _ => {
            let mut one = schema.clone();
            if let (Some(fields), Some(defs)) = (one.as_object_mut(), root.get("$defs")) {
                fields.entry("$defs").or_insert_with(|| defs.clone());
            }
            let name = format!("{rule}_value");
            let one = if supported(&one) { one } else { json!({}) };
            grammar.raw(&Constraint::json_schema(one).rules(&name)?);
            Some(name)
        }
    };
    match value {
        Some(value) => grammar.rule(rule, &format!("{head} {value} {end}")),
        None => grammar.rule(&format!("{rule}[lazy]"), &format!("{head} VALUE {end}")),
    }
    Ok(())
}

//! JSON schemas of Rust types, of the keywords that can be enforced.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value as Json;

/// Formats of strings that can be enforced. Others are for the type's own check.
const FORMATS: [&str; 10] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// The JSON schema (draft 2020-12) of what `T` is read from, as answers are constrained to it.
///
/// It is not shown to the model by itself. Models answer better when they see it:
///
/// ```
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct City {
///     /// Its English name
///     name: String,
///     inhabitants: u32,
/// }
/// let schema = tramontane::tools::schema_of::<City>();
/// assert_eq!(schema["properties"]["name"]["description"], "Its English name");
/// let prompt = format!("Answer with JSON of this schema: {schema}");
/// ```
pub fn schema_of<T: JsonSchema + ?Sized>() -> Json {
    let mut settings =
        SchemaSettings::draft2020_12().with_transform(RecursiveTransform(enforceable));
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    close(&mut schema);
    schema
}

/// Leaves what can be enforced, or changes it to that; the type checks the rest when it is
/// read. The variants of a Rust enum exclude each other or are tried in order, so `oneOf` is
/// `anyOf`.
fn enforceable(schema: &mut Schema) {
    let Some(keywords) = schema.as_object_mut() else { return };
    if let Some(variants) = keywords.remove("oneOf") {
        keywords.insert("anyOf".into(), variants);
    }
    keywords.remove("uniqueItems");
    if keywords.get("format").and_then(Json::as_str).is_some_and(|f| !FORMATS.contains(&f)) {
        keywords.remove("format");
    }
}

/// Keywords by which several schemas describe one value.
const COMBINING: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Forbids properties that the type does not have: `serde` passes over them, and a model would
/// write them. Not where several schemas describe one object (flattened structs, enums with a
/// tag beside a struct): each knows a part of its properties.
fn close(schema: &mut Json) {
    // Definitions that are such a part; one found may make others found.
    let mut parts = BTreeSet::new();
    loop {
        let before = parts.len();
        visit(schema, false, &mut parts, false);
        if parts.len() == before {
            break;
        }
    }
    visit(schema, false, &mut parts, true);
}

/// Collects the names of definitions that are a part of an object, or closes what is none.
/// `part`: whether another schema describes the value too.
fn visit(schema: &mut Json, part: bool, parts: &mut BTreeSet<String>, closes: bool) {
    let Json::Object(keywords) = schema else { return };
    let has = |name: &str| keywords.contains_key(name);
    let combines = COMBINING.iter().any(|name| has(name));
    let part = part || has("allOf") || (combines && has("properties"));
    let is_object = has("properties") || keywords.get("type").is_some_and(|kind| kind == "object");
    let says = ["additionalProperties", "patternProperties"].iter().any(|name| has(name));
    if closes && is_object && !part && !combines && !says {
        keywords.insert("additionalProperties".into(), false.into());
    }
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("$ref", Json::String(target)) if part => {
                parts.extend(target.rsplit('/').next().map(str::to_owned));
            }
            ("allOf" | "anyOf" | "oneOf", Json::Array(schemas)) => {
                schemas.iter_mut().for_each(|inner| visit(inner, part, parts, closes));
            }
            ("$defs", Json::Object(schemas)) => {
                for (name, inner) in schemas {
                    let part = parts.contains(name);
                    visit(inner, part, parts, closes);
                }
            }
            ("properties" | "patternProperties", Json::Object(schemas)) => {
                schemas.values_mut().for_each(|inner| visit(inner, false, parts, closes));
            }
            ("prefixItems", Json::Array(schemas)) => {
                schemas.iter_mut().for_each(|inner| visit(inner, false, parts, closes));
            }
            ("items" | "additionalProperties", inner) => visit(inner, false, parts, closes),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Shape {
        /// A circle
        Circle {
            radius: f64,
        },
        Square {
            side: u8,
        },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct All {
        shapes: Vec<Shape>,
        names: HashSet<String>,
        by_name: BTreeMap<String, i64>,
        address: std::net::IpAddr,
        parent: Option<Box<All>>,
        letter: char,
    }

    /// Every `(keyword, value)` of the schemas within a schema.
    fn keywords(schema: &Json, found: &mut Vec<(String, Json)>) {
        match schema {
            Json::Object(map) => map.iter().for_each(|(key, value)| {
                found.push((key.clone(), value.clone()));
                keywords(value, found);
            }),
            Json::Array(items) => items.iter().for_each(|item| keywords(item, found)),
            _ => {}
        }
    }

    #[test]
    fn what_cannot_be_enforced_is_left_to_the_type() {
        let schema = schema_of::<All>();
        let mut found = Vec::new();
        keywords(&schema, &mut found);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        for absent in ["oneOf", "uniqueItems", "$schema"] {
            assert!(!names.contains(&absent), "{absent} in {schema}");
        }
        assert!(!found.contains(&("format".into(), "ip".into())), "{schema}");
        assert_eq!(schema["$defs"]["Shape"]["anyOf"].as_array().map(Vec::len), Some(2), "{schema}");
        let circle = &schema["$defs"]["Shape"]["anyOf"][0];
        assert_eq!(circle["properties"]["kind"]["const"], "circle");
        assert_eq!(schema["properties"]["by_name"]["additionalProperties"]["type"], "integer");
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Inner {
        inner: Empty,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Empty {}

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    #[serde(tag = "kind")]
    enum Tagged {
        Struct(Inner),
        Fields { field: u8 },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Flat {
        own: u8,
        #[serde(flatten)]
        one_of: Tagged,
    }

    #[test]
    fn objects_have_no_other_properties_than_the_type() {
        let schema = schema_of::<All>();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Shape"]["anyOf"][0]["additionalProperties"], false);
        // A map has any.
        assert_eq!(schema["properties"]["by_name"]["additionalProperties"]["type"], "integer");
        assert_eq!(schema_of::<Empty>()["additionalProperties"], false);
    }

    #[test]
    fn objects_that_several_schemas_describe_stay_open() {
        for schema in [schema_of::<Tagged>(), schema_of::<Flat>()] {
            // Every value that the type has must be of the schema; what several schemas
            // describe is closed in none of them.
            let mut found = Vec::new();
            keywords(&schema["$defs"]["Inner"], &mut found);
            let closed = found.iter().filter(|(name, _)| name == "additionalProperties").count();
            assert_eq!(closed, 0, "{schema:#}");
        }
        let schema = schema_of::<Tagged>();
        let fields = &schema["anyOf"][1];
        assert_eq!(fields["additionalProperties"], false, "{schema:#}");
        assert_eq!(schema["$defs"]["Empty"]["additionalProperties"], false, "{schema:#}");
        let flat = schema_of::<Flat>();
        assert!(flat.get("additionalProperties").is_none(), "{flat:#}");
        for variant in flat["anyOf"].as_array().into_iter().flatten() {
            assert!(variant.get("additionalProperties").is_none(), "{flat:#}");
        }
    }

    #[test]
    fn fields_keep_their_order() {
        let schema = schema_of::<All>();
        let fields: Vec<&String> =
            schema["properties"].as_object().into_iter().flat_map(|map| map.keys()).collect();
        assert_eq!(fields, ["shapes", "names", "by_name", "address", "parent", "letter"]);
    }
}

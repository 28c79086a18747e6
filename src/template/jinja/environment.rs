//! The Jinja environment that Hugging Face transformers documents for chat
//! templates (huggingface.co/docs/transformers, "Chat templates": `tojson`,
//! `raise_exception`, `strftime_now`, trimmed blocks, loop controls), on
//! `minijinja`, with Python's methods and Python's way to show values.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{
    AutoEscape, Environment, Error, State, UndefinedBehavior, filters, functions, tests,
};

use super::bounds::{Text, bounded, factor, refuse, visited};
use super::python::{self, Json};
use super::{FUEL, MAX_OUTPUT, clock, guard, methods};

/// Levels of calls: a macro costs the engine's 4, a block within it 1 each.
const RECURSION_LIMIT: usize = 160;
/// Bytes of output that one unit of fuel pays for where a value is shown.
const BYTES_PER_FUEL: usize = 8;

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    // The default delimiters cannot be refused.
    env.set_syntax(syntax.unwrap_or_default());
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION_LIMIT);
    env.set_unknown_method_callback(methods::call);
    env.set_formatter(|out, state, value| {
        let text = shown(state, value)?;
        out.write_str(text.as_str().unwrap_or_default()).map_err(Error::from)
    });
    add_filters(&mut env);
    add_tests(&mut env);
    env.remove_global("debug");
    env.add_function("raise_exception", |state: &State, message: &Value| -> Result<Value, Error> {
        Err(refuse(shown(state, message)?.as_str().unwrap_or_default()))
    });
    env.add_function("dict", |state: &State, start: Option<Value>, named: Kwargs| {
        let made = functions::dict(start, named)?;
        bounded(state, &made, true)
    });
    env.add_function("namespace", |state: &State, start: Option<ValueOrKwargs>| {
        let made = functions::namespace(start)?;
        for name in made.try_iter()? {
            bounded(state, &made.get_item(&name)?, false)?;
        }
        Ok(made)
    });
    set_clock(&mut env, None);
    env
}

/// Makes `strftime_now` tell `unix` seconds since 1970, or the current time.
pub(super) fn set_clock(env: &mut Environment<'_>, unix: Option<u64>) {
    env.add_function("strftime_now", move |format: &str| {
        clock::strftime(unix.unwrap_or_else(clock::now), format)
    });
}

fn add_filters(env: &mut Environment<'_>) {
    env.add_filter(guard::GUARD, |state: &State, value: &Value| bounded(state, value, true));
    env.add_filter(guard::GUARD_MEMBER, |state: &State, value: &Value| {
        bounded(state, value, false)
    });
    env.add_filter(guard::GUARD_VISITED, |state: &State, value: &Value| visited(state, value));
    env.add_filter(guard::GUARD_FACTOR, |value: &Value| factor(value));
    env.add_filter(guard::GUARD_ITEMS, |value: &Value| match value.is_none() {
        true => Err(refuse("none cannot be iterated over")),
        false => Ok(value.clone()),
    });
    env.add_filter("tojson", tojson);
    // The engine's fails where jinja2's answers 0.
    env.add_filter(
        "int",
        |state: &State, value: &Value, default: Option<Value>, base: Option<u32>, named: Kwargs| {
            let default = match default {
                Some(default) => default,
                None => named.get::<Option<Value>>("default")?.unwrap_or(Value::from(0)),
            };
            filters::int(state, value, Some(default), base, named)
        },
    );
    for name in ["escape", "e"] {
        env.add_filter(name, escape);
    }
    env.add_filter("string", shown);
    env.add_filter("join", join);
    env.add_filter("center", |text: &str, width: Option<usize>| {
        methods::pad(text, width.unwrap_or(80), ' ', methods::Side::Both)
    });
    env.add_filter("batch", |state: &mut State, value: Value, n: usize, fill: Option<Value>| {
        let made = filters::batch(state, value, n, fill)?;
        bounded(state, &made, true)
    });
    env.add_filter("slice", |state: &mut State, value: Value, n: usize, fill: Option<Value>| {
        let made = filters::slice(state, value, n, fill)?;
        bounded(state, &made, true)
    });
    env.add_filter("reverse", |state: &State, value: &Value| {
        bounded(state, &filters::reverse(value)?, true)
    });
    add_ordering_filter(env, "sort", filters::sort);
    add_ordering_filter(env, "unique", filters::unique);
    add_ordering_filter(env, "min", filters::min);
    add_ordering_filter(env, "max", filters::max);
    // Not in jinja2, or they nest and repeat what they are given without bound.
    for name in ["chain", "zip", "lines", "bool", "pprint", "groupby"] {
        env.remove_filter(name);
    }
}

/// A filter that compares items: charged for all that is in them.
fn add_ordering_filter(
    env: &mut Environment<'_>,
    name: &'static str,
    filter: fn(&State, Value, Kwargs) -> Result<Value, Error>,
) {
    env.add_filter(name, move |state: &State, value: &Value, named: Kwargs| {
        filter(state, visited(state, value)?, named)
    });
}

/// A test that compares: the same.
fn add_comparison(
    env: &mut Environment<'_>,
    names: [&'static str; 3],
    test: fn(&Value, &Value) -> bool,
) {
    for name in names {
        env.add_test(name, move |state: &State, value: &Value, other: &Value| {
            visited(state, value)?;
            visited(state, other)?;
            Ok::<_, Error>(test(value, other))
        });
    }
}

/// `is sequence` and `is iterable` as in jinja2: what has a length and items.
fn add_tests(env: &mut Environment<'_>) {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    env.add_test("sequence", |value: &Value| {
        matches!(value.kind(), Seq | Map | String | Iterable | Undefined)
    });
    env.add_test("iterable", |value: &Value| {
        matches!(value.kind(), Seq | Map | String | Iterable | Undefined)
    });
    add_comparison(env, ["eq", "equalto", "=="], tests::is_eq);
    add_comparison(env, ["ne", "ne", "!="], tests::is_ne);
    add_comparison(env, ["lt", "lessthan", "<"], tests::is_lt);
    add_comparison(env, ["le", "le", "<="], tests::is_le);
    add_comparison(env, ["gt", "greaterthan", ">"], tests::is_gt);
    add_comparison(env, ["ge", "ge", ">="], tests::is_ge);
    env.add_test("in", |state: &State, value: &Value, all: &Value| {
        tests::is_in(state, &visited(state, value)?, &visited(state, all)?)
    });
    for name in ["startingwith", "endingwith"] {
        env.remove_test(name);
    }
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// HTML escapes, spelled as Python's markupsafe does.
fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    let text = shown(state, value)?;
    let mut out = Text::new(MAX_OUTPUT);
    for letter in text.as_str().unwrap_or_default().chars() {
        match letter {
            '&' => out.push("&amp;")?,
            '<' => out.push("&lt;")?,
            '>' => out.push("&gt;")?,
            '"' => out.push("&#34;")?,
            '\'' => out.push("&#39;")?,
            _ => out.push_char(letter)?,
        }
    }
    Ok(Value::from(out.text))
}

/// `str(value)`.
fn shown(state: &State, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    let mut out = Text::new(MAX_OUTPUT);
    python::write_str(&mut out, value)?;
    state.consume_fuel((out.text.len() / BYTES_PER_FUEL) as u64)?;
    Ok(Value::from(out.text))
}

/// The texts of the items with `joiner` between them.
fn join(
    state: &State,
    items: &Value,
    joiner: Option<Value>,
    attribute: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let argument = |placed: Option<Value>, name: &str| match placed {
        Some(value) => Ok(Some(value)),
        None => named.get::<Option<Value>>(name),
    };
    let joiner = argument(joiner, "d")?.map(|value| shown(state, &value)).transpose()?;
    let attribute = argument(attribute, "attribute")?.filter(|value| !value.is_none());
    named.assert_all_used()?;
    let mut out = Text::new(MAX_OUTPUT);
    for (index, mut item) in items.try_iter()?.enumerate() {
        state.consume_fuel(1)?;
        if let (Some(joiner), true) = (&joiner, index > 0) {
            out.push(joiner.as_str().unwrap_or_default())?;
        }
        if let Some(path) = attribute.as_ref().and_then(Value::as_str) {
            for name in path.split('.') {
                item = item.get_attr(name)?;
            }
        } else if let Some(key) = &attribute {
            item = item.get_item(key)?;
        }
        out.push(shown(state, &item)?.as_str().unwrap_or_default())?;
    }
    Ok(Value::from(out.text))
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`.
fn tojson(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    let (placed, named): (&[Value], Kwargs) = from_args(&args)?;
    let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = match placed.get(index) {
            Some(value) => Some(value.clone()),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(given.filter(|value| !value.is_none()))
    };
    let ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
    let indent = match argument(1, "indent")? {
        None => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(i64::try_from(value)?.clamp(0, 1024) as usize),
        }),
    };
    let (mut item_separator, mut key_separator) =
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(pair) = argument(2, "separators")? {
        item_separator = pair.get_item_by_index(0)?.to_string();
        key_separator = pair.get_item_by_index(1)?.to_string();
    }
    named.assert_all_used()?;
    let json = Json { ascii, indent, item_separator, key_separator, sort_keys };
    let mut out = Text::new(MAX_OUTPUT);
    json.write(&mut out, value, 0)?;
    state.consume_fuel((out.text.len() / BYTES_PER_FUEL) as u64)?;
    Ok(Value::from(out.text))
}

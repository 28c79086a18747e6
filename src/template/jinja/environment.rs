//! The Jinja environment that Hugging Face transformers documents for chat
//! templates (huggingface.co/docs/transformers, "Chat templates": `tojson`,
//! `raise_exception`, `strftime_now`, trimmed blocks, loop controls), on
//! `minijinja`, with Python's methods and Python's way to show values.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, State, UndefinedBehavior, functions, tests};

use super::arguments::{Arguments, bound, text};
use super::bounds::{bounded, factor, is_namespace, refuse, visited};
use super::generator::Generator;
use super::python::shown;
use super::{FUEL, clock, guard, members, methods, percent, sequences, texts, translate};

/// Levels of calls: a macro costs the engine's 4, a block within it 1 each.
const RECURSION_LIMIT: usize = 160;

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
    add_guards(&mut env);
    texts::add(&mut env);
    sequences::add(&mut env);
    add_tests(&mut env);
    env.remove_global("debug");
    env.add_function("raise_exception", |state: &State, message: &Value| -> Result<Value, Error> {
        Err(refuse(shown(state, message)?.as_str().unwrap_or_default()))
    });
    env.add_function("dict", dict);
    env.add_function("namespace", |state: &State, start: Option<Value>, named: Kwargs| {
        let made = functions::namespace(Some(functions::dict(start, named)?.into()))?;
        for name in made.try_iter()? {
            bounded(state, &made.get_item(&name)?, false)?;
        }
        Ok::<_, Error>(made)
    });
    set_clock(&mut env, None);
    env
}

/// Makes `strftime_now` tell `unix` seconds since 1970, or the current time.
pub(super) fn set_clock(env: &mut Environment<'_>, unix: Option<u64>) {
    env.add_function("strftime_now", move |given: Arguments| {
        let [format] = bound(&given.into_values(), ["format"])?;
        let format = text(format.as_ref())?.ok_or_else(|| refuse("strftime_now takes a format"))?;
        clock::strftime(unix.unwrap_or_else(clock::now), format)
    });
}

/// A dictionary of what another holds, or of pairs, and of named values.
fn dict(state: &State, start: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let start = match start {
        Some(start) if start.kind() != ValueKind::Map => {
            visited(state, &start)?;
            let mut pairs = Vec::new();
            for pair in start.try_iter()? {
                let pair: Vec<Value> = pair.try_iter()?.collect();
                let [key, value] = <[Value; 2]>::try_from(pair)
                    .map_err(|_| refuse("dict takes pairs of a key and a value"))?;
                pairs.push((key, value));
            }
            Some(Value::from_pairs(pairs))
        }
        start => start,
    };
    bounded(state, &functions::dict(start, named)?, true)
}

/// The filters that [`super::guard`] and [`super::translate`] put into templates.
fn add_guards(env: &mut Environment<'_>) {
    env.add_filter(guard::GUARD, |state: &State, value: &Value| bounded(state, value, true));
    env.add_filter(guard::GUARD_MEMBER, |state: &State, value: &Value| {
        bounded(state, value, false)
    });
    env.add_filter(guard::GUARD_VISITED, |state: &State, value: &Value| visited(state, value));
    env.add_filter(guard::GUARD_SHOWN, shown);
    env.add_filter(guard::GUARD_FACTOR, |value: &Value| factor(value));
    env.add_filter(guard::GUARD_ITEMS, |value: &Value| {
        match value.downcast_object_ref::<Generator>() {
            // `loop.length` counts the items of a generator.
            Some(_) => Ok(value.try_iter()?.collect()),
            None if value.is_none() => Err(refuse("none cannot be iterated over")),
            None => Ok(value.clone()),
        }
    });
    env.add_filter(translate::REMAINDER, percent::remainder);
    env.add_filter(translate::JOINED, texts::joined);
    env.add_filter(translate::MEMBER, |value: &Value, name: &str| members::member(value, name));
    env.add_filter(translate::ITEM, |value: &Value, name: &str| members::item(value, name));
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

/// The tests in which the engine differs from jinja2, and those that compare.
fn add_tests(env: &mut Environment<'_>) {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    env.add_test("sequence", |value: &Value| {
        matches!(value.kind(), Seq | Map | String | Iterable | Undefined)
    });
    env.add_test("mapping", |value: &Value| value.kind() == Map && !is_namespace(value));
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

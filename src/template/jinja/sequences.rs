//! Filters of sequences, where the engine differs from jinja2: what they return is a
//! [`Generator`] where it is in Python, arguments go by place or by name, and what is compared
//! or made is weighed.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, State, filters};

use super::arguments::{Arguments, bound, by_name, integer};
use super::bounds::{bounded, is_dict, refuse, visited};
use super::generator::Generator;

type Extreme = fn(&State, Value, Kwargs) -> Result<Value, Error>;

pub(super) fn add(env: &mut Environment<'_>) {
    add_choosing(env);
    add_ordering(env);
    env.add_filter("batch", |state: &mut State, value: Value, given: Arguments| {
        let [count, fill] = bound(&given.into_values(), ["linecount", "fill_with"])?;
        let fill = fill.filter(|fill| !fill.is_none());
        generator(state, &filters::batch(state, value, size(count)?, fill)?)
    });
    env.add_filter("slice", |state: &mut State, value: Value, given: Arguments| {
        let [count, fill] = bound(&given.into_values(), ["slices", "fill_with"])?;
        let fill = fill.filter(|fill| !fill.is_none());
        generator(state, &filters::slice(state, value, size(count)?, fill)?)
    });
    env.add_filter("reverse", |state: &State, value: &Value| {
        bounded(state, &filters::reverse(value)?, true)
    });
    env.add_filter("items", |state: &State, value: &Value| {
        generator(state, &filters::items(value)?)
    });
    env.add_filter("list", |state: &State, value: &Value| filters::list(state, not_none(value)?));
    // Members of objects; the items of a dictionary are none.
    env.add_filter("attr", |value: &Value, name: &Value| match is_dict(value) {
        true => Ok(Value::UNDEFINED),
        false => filters::attr(value, name),
    });
    // They nest and repeat what they are given without bound.
    for name in ["chain", "zip"] {
        env.remove_filter(name);
    }
}

/// `map`, `select` and their like.
fn add_choosing(env: &mut Environment<'_>) {
    env.add_filter("map", |state: &mut State, value: Value, given: Arguments| {
        let made = filters::map(state, value, given)?;
        generator(state, &Value::from(made))
    });
    env.add_filter(
        "select",
        |state: &mut State, value: Value, test: Option<String>, given: Arguments| {
            let made = filters::select(state, value, test.map(Into::into), given)?;
            generator(state, &Value::from(made))
        },
    );
    env.add_filter(
        "reject",
        |state: &mut State, value: Value, test: Option<String>, given: Arguments| {
            let made = filters::reject(state, value, test.map(Into::into), given)?;
            generator(state, &Value::from(made))
        },
    );
    env.add_filter(
        "selectattr",
        |state: &mut State, value: Value, name: String, test: Option<String>, given: Arguments| {
            let test = test.map(Into::into);
            let made = filters::selectattr(state, value, name.into(), test, given)?;
            generator(state, &Value::from(made))
        },
    );
    env.add_filter(
        "rejectattr",
        |state: &mut State, value: Value, name: String, test: Option<String>, given: Arguments| {
            let test = test.map(Into::into);
            let made = filters::rejectattr(state, value, name.into(), test, given)?;
            generator(state, &Value::from(made))
        },
    );
}

/// Filters that compare items: charged for all that is in them.
fn add_ordering(env: &mut Environment<'_>) {
    env.add_filter("sort", |state: &State, value: &Value, given: Arguments| {
        let names = ["reverse", "case_sensitive", "attribute"];
        filters::sort(
            state,
            visited(state, &not_none(value)?)?,
            by_name(&given.into_values(), names)?,
        )
    });
    env.add_filter("unique", |state: &State, value: &Value, given: Arguments| {
        let named = by_name(&given.into_values(), ["case_sensitive", "attribute"])?;
        generator(state, &filters::unique(state, visited(state, value)?, named)?)
    });
    for (name, filter) in [("min", filters::min as Extreme), ("max", filters::max)] {
        env.add_filter(name, move |state: &State, value: &Value, given: Arguments| {
            let named = by_name(&given.into_values(), ["case_sensitive", "attribute"])?;
            filter(state, visited(state, value)?, named)
        });
    }
    env.add_filter("groupby", |state: &State, value: &Value, given: Arguments| {
        let named = by_name(&given.into_values(), ["attribute", "default", "case_sensitive"])?;
        bounded(state, &filters::groupby(visited(state, value)?, None, named)?, true)
    });
    env.add_filter("dictsort", |state: &State, value: &Value, given: Arguments| {
        let given = given.into_values();
        let named = by_name(&given, ["case_sensitive", "by", "reverse"])?;
        if !matches!(named.peek::<Option<&str>>("by")?, None | Some("key" | "value")) {
            return Err(refuse("dictsort sorts by \"key\" or \"value\""));
        }
        filters::dictsort(&visited(state, value)?, named)
    });
}

/// What is made, within its bounds, as a generator.
fn generator(state: &State, made: &Value) -> Result<Value, Error> {
    Generator::of(&bounded(state, made, true)?)
}

fn not_none(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Err(refuse("none has no items")),
        _ => Ok(value.clone()),
    }
}

fn size(count: Option<Value>) -> Result<usize, Error> {
    usize::try_from(integer(count.as_ref(), 0)?).map_err(|_| refuse("a count is not negative"))
}

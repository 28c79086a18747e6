//! Arguments by place or by name, as Python takes them.

use minijinja::Error;
use minijinja::value::{Kwargs, Rest, Value, ValueOrKwargs, from_args};

use super::bounds::refuse;

/// Everything that a filter is given behind its value.
pub(super) type Arguments = Rest<ValueOrKwargs>;

/// The arguments named `names`, in that order.
pub(super) fn bound<const N: usize>(
    given: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let (placed, named): (&[Value], Kwargs) = from_args(given)?;
    if placed.len() > N {
        return Err(refuse(format!("takes at most {N} arguments")));
    }
    let mut values = [const { None }; N];
    for (index, (value, name)) in values.iter_mut().zip(names).enumerate() {
        let by_name = named.get::<Option<Value>>(name)?;
        *value = match placed.get(index) {
            Some(_) if by_name.is_some() => {
                return Err(refuse(format!("the argument {name} is given twice")));
            }
            Some(placed) => Some(placed.clone()),
            None => by_name,
        };
    }
    named.assert_all_used()?;
    Ok(values)
}

/// The same arguments, all by name, for the engine's own filters.
pub(super) fn by_name<const N: usize>(given: &[Value], names: [&str; N]) -> Result<Kwargs, Error> {
    let values = bound(given, names)?;
    let named = names.into_iter().zip(values);
    Ok(named.filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Whether the argument is given and true.
pub(super) fn is_true(argument: Option<&Value>) -> bool {
    argument.is_some_and(Value::is_true)
}

/// An integer, or what stands in its place where it is left out or none.
pub(super) fn integer(argument: Option<&Value>, otherwise: i64) -> Result<i64, Error> {
    match argument {
        Some(value) if value.as_str().is_some() => Err(refuse("an integer is required")),
        Some(value) if !value.is_none() => i64::try_from(value.clone()),
        _ => Ok(otherwise),
    }
}

/// A text, if the argument is given and not none.
pub(super) fn text(argument: Option<&Value>) -> Result<Option<&str>, Error> {
    match argument {
        Some(value) if !value.is_none() => {
            value.as_str().map(Some).ok_or_else(|| refuse("a text is required"))
        }
        _ => Ok(None),
    }
}

//! Members of dictionaries whose names are those of Python's methods, where no call follows.

use std::sync::Arc;

use minijinja::Error;
use minijinja::value::{Object, ObjectRepr, Value};

use super::bounds::is_dict;
use super::translate::DICT_METHODS;

/// A method that is not called: defined, true, without members.
#[derive(Debug)]
struct Method;

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

fn method(name: &str) -> Value {
    match DICT_METHODS.contains(&name) {
        true => Value::from_object(Method),
        false => Value::UNDEFINED,
    }
}

/// `value.name`: the method hides the key.
pub(super) fn member(value: &Value, name: &str) -> Result<Value, Error> {
    match is_dict(value) {
        true => Ok(method(name)),
        false => value.get_attr(name),
    }
}

/// `value['name']`: the key hides the method.
pub(super) fn item(value: &Value, name: &str) -> Result<Value, Error> {
    let found = value.get_attr(name)?;
    match found.is_undefined() && is_dict(value) {
        true => Ok(method(name)),
        false => Ok(found),
    }
}

//! Functions of a program that a model may call.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::template::{Tool, ToolCall};

use super::schema::schema_of;

/// Functions that a model may call, as closures with typed arguments.
///
/// ```
/// use tramontane::{ToolCall, ToolSet};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add {
///     a: i64,
///     b: i64,
/// }
///
/// let tools = ToolSet::new()
///     .with("add", "Adds two numbers", |args: Add| {
///         args.a.checked_add(args.b).ok_or("the sum is too large")
///     })
///     .with("pi", "The number π", |(): ()| Ok::<_, String>(std::f64::consts::PI));
///
/// let call = ToolCall::new("add", serde_json::json!({"a": 2, "b": 3}));
/// assert_eq!(tools.call(&call), 5);
/// let call = ToolCall::new("add", serde_json::json!({"a": i64::MAX, "b": 3}));
/// assert_eq!(tools.call(&call)["error"], "the sum is too large");
/// ```
#[derive(Default)]
pub struct ToolSet {
    functions: Vec<Function>,
}

struct Function {
    tool: Tool,
    run: Box<dyn Fn(Json) -> Json + Send + Sync>,
}

impl ToolSet {
    /// A set without functions.
    pub fn new() -> Self {
        ToolSet::default()
    }

    /// With one more function, in the place of one of the same name.
    ///
    /// The model sees the name, the description and the schema of `A`, with the comments of
    /// its fields; `()` stands for no arguments. What the function returns is given to the
    /// model: a text as it is, all else as JSON, an error as `{"error": …}`, so that the model
    /// can try again. A panic is not caught.
    #[must_use]
    pub fn with<A, R, E>(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        function: impl Fn(A) -> Result<R, E> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema,
        R: Serialize,
        E: fmt::Display,
    {
        let name = name.into();
        let mut schema = schema_of::<A>();
        let no_arguments = schema.get("type").is_some_and(|kind| kind == "null");
        if no_arguments {
            schema = json!({"type": "object", "properties": {}});
        }
        if let Json::Object(keywords) = &mut schema {
            keywords.remove("title");
        }
        let run = move |arguments: Json| {
            let arguments = if no_arguments { Json::Null } else { arguments };
            match serde_json::from_value(arguments) {
                Ok(arguments) => result(function(arguments)),
                Err(problem) => error(format!("the arguments do not fit: {problem}")),
            }
        };
        self.functions.retain(|function| function.tool.name() != name);
        let tool = Tool::function(name, description, schema);
        self.functions.push(Function { tool, run: Box::new(run) });
        self
    }

    /// The functions as a template shows them to the model.
    pub fn tools(&self) -> Vec<Tool> {
        self.functions.iter().map(|function| function.tool.clone()).collect()
    }

    /// Runs a call. What goes wrong, also a name that is not in the set, is a result of the
    /// form `{"error": …}`.
    pub fn call(&self, call: &ToolCall) -> Json {
        match self.functions.iter().find(|function| function.tool.name() == call.name()) {
            Some(function) => (function.run)(call.arguments()),
            None => error(format!("there is no function {:?}", call.name())),
        }
    }
}

fn result<R: Serialize, E: fmt::Display>(result: Result<R, E>) -> Json {
    match result {
        Ok(value) => serde_json::to_value(value)
            .unwrap_or_else(|problem| error(format!("the result is no JSON: {problem}"))),
        Err(problem) => error(problem.to_string()),
    }
}

fn error(problem: String) -> Json {
    json!({"error": problem})
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter().map(|function| function.tool.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, JsonSchema)]
    struct Repeat {
        /// What to repeat
        text: String,
        times: Option<u8>,
    }

    fn set() -> ToolSet {
        ToolSet::new()
            .with("repeat", "Repeats a text", |args: Repeat| match args.times {
                Some(0) => Err("times must be at least 1"),
                times => Ok(args.text.repeat(times.unwrap_or(2).into())),
            })
            .with("nothing", "Does nothing", |(): ()| Ok::<_, String>(json!({"done": true})))
    }

    #[test]
    fn the_model_sees_names_descriptions_and_schemas() {
        let tools = set().tools();
        let function = &tools[0].as_json()["function"];
        assert_eq!(function["name"], "repeat");
        assert_eq!(function["description"], "Repeats a text");
        assert_eq!(function["parameters"]["properties"]["text"]["description"], "What to repeat");
        assert_eq!(function["parameters"]["required"], json!(["text"]));
        let nothing = &tools[1].as_json()["function"]["parameters"];
        assert_eq!(*nothing, json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn calls_are_run_and_what_goes_wrong_is_their_result() {
        let call = |name: &str, arguments: Json| set().call(&ToolCall::new(name, arguments));
        assert_eq!(call("repeat", json!({"text": "ab"})), "abab");
        // Arguments as text, as OpenAI's API has them.
        assert_eq!(call("repeat", json!("{\"text\": \"ab\", \"times\": 1}")), "ab");
        assert_eq!(call("nothing", json!({})), json!({"done": true}));
        assert_eq!(call("nothing", Json::Null), json!({"done": true}));
        let problem = |result: Json| result["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            problem(call("repeat", json!({"text": "a", "times": 0}))),
            "times must be at least 1"
        );
        assert!(problem(call("repeat", json!({"times": 3}))).contains("text"));
        assert!(problem(call("repeat", json!({"text": "a", "times": 300}))).contains("300"));
        assert!(problem(call("missing", json!({}))).contains("missing"));
    }

    #[test]
    fn a_name_stands_for_one_function() {
        let set = set().with("repeat", "Once", |args: Repeat| Ok::<_, String>(args.text));
        assert_eq!(set.tools().len(), 2);
        assert_eq!(set.call(&ToolCall::new("repeat", json!({"text": "ab"}))), "ab");
    }
}

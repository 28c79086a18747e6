//! The grammar of calls, in the form of each family.

use serde_json::Value as Json;

use super::form::Kind;
use super::grammar::{Grammar, literal};
use super::parameters;
use crate::error::Result;

/// How many calls follow the first, where the answer is nothing but calls or they are a list:
/// a weak model would go on for ever.
const MORE: &str = "{0,31}";

impl Grammar<'_> {
    /// Calls behind the marker, with the marker at the end. `only`: the answer is nothing else.
    ///
    /// # Errors
    /// As [`Constraint::rules`](crate::constrain::Constraint).
    pub(super) fn calls(&mut self, only: bool) -> Result<String> {
        let parallel = self.shape.parallel;
        let close = match self.form.close.as_str() {
            "" => String::new(),
            close => format!(" SPACE {}", self.mark(close)),
        };
        let again = |calls: String, mark: &str| match parallel && only {
            true if mark.is_empty() => calls,
            true => format!("{calls} (SPACE {mark} {calls}){MORE}"),
            false => calls,
        };
        let mark = self.opening();
        Ok(match self.form.kind {
            Kind::Named => {
                let args = self.mark("[ARGS]");
                let id = format!("({} /[a-zA-Z0-9]{{1,32}}/)?", self.mark("[CALL_ID]"));
                let call = self.each(|index, name| {
                    format!("{} {id} {args} SPACE arguments_{index}", literal(name))
                });
                again(call, &mark)
            }
            Kind::Function => {
                let call = self.each(|index, name| {
                    format!("{} SPACE arguments_{index}", literal(&format!("{name}>")))
                });
                again(format!("{call}{close}"), &mark)
            }
            Kind::Parameters => {
                parameters::rules(self)?;
                let call = self.each(|index, _| format!("function_{index}"));
                again(format!("SPACE {call}{close}"), &mark)
            }
            Kind::Fenced => self.fenced(&close),
            Kind::Objects | Kind::Python | Kind::Channels | Kind::Recipients => {
                self.objects();
                let call = match self.form.kind == Kind::Python && !only {
                    true => self.python(),
                    false => self.each(|index, _| format!("object_{index}")),
                };
                let items = self.items(&call, only);
                again(format!("SPACE {items}{close}"), if self.form.list { "" } else { &mark })
            }
        })
    }

    /// One call object or a list of them.
    fn items(&self, call: &str, only: bool) -> String {
        let more = if self.shape.parallel {
            format!(" (SPACE \",\" SPACE {call}){MORE}")
        } else {
            String::new()
        };
        let list = format!("\"[\" SPACE {call}{more} SPACE \"]\"");
        match (only, self.form.list, self.form.mark.is_empty() && self.shape.parallel) {
            (true, true, _) => list,
            (true, false, false) => call.to_owned(),
            _ => format!("({call} | {list})"),
        }
    }

    /// A rule for the call object of each function.
    pub(super) fn objects(&mut self) {
        if self.rules.contains("\nobject_0: ") {
            return;
        }
        let key = |key: &str| literal(&format!("\"{key}\""));
        let (name, arguments) = (key(&self.form.name), key(&self.form.arguments));
        // Command-R numbers its calls, Mistral's have ids.
        let id = match self.form.name.as_str() {
            "tool_name" => {
                r#"("\"tool_call_id\"" SPACE ":" SPACE /"[0-9]{1,3}"/ SPACE "," SPACE)?"#
            }
            _ if self.form.mark == "[TOOL_CALLS]" => {
                r#"("\"id\"" SPACE ":" SPACE /"[a-zA-Z0-9]{9}"/ SPACE "," SPACE)?"#
            }
            _ => "",
        };
        let last = match self.form.mark == "[TOOL_CALLS]" {
            true => r#"(SPACE "," SPACE "\"id\"" SPACE ":" SPACE /"[a-zA-Z0-9]{9}"/)?"#,
            false => "",
        };
        for (index, tool) in self.tools.clone().into_iter().enumerate() {
            let value = literal(&Json::from(tool.name()).to_string());
            self.rule(
                &format!("object_{index}"),
                &format!(
                    "\"{{\" SPACE {id} {name} SPACE \":\" SPACE {value} SPACE \",\" SPACE \
                     {arguments} SPACE \":\" SPACE arguments_{index} {last} SPACE \"}}\""
                ),
            );
        }
    }

    /// A call object or a call in Python, whose arguments may be anything that Python has.
    fn python(&mut self) -> String {
        let string = r#"/"([^"\\]|\\(.|\n))*"|'([^'\\]|\\(.|\n))*'/"#;
        self.rule("PY_STRING", string);
        self.rule("PY_WORD", r"/[A-Za-z0-9_.+\-]+/");
        let items = r#"[py_value (SPACE "," SPACE py_value)*]"#;
        let pair = r#"PY_STRING SPACE ":" SPACE py_value"#;
        let dict = format!(r#""{{" [{pair} (SPACE "," SPACE {pair})*] "}}""#);
        self.rule("py_value", &format!(r#"PY_STRING | PY_WORD | "[" {items} "]" | {dict}"#));
        self.rule("py_argument", r#"/[a-zA-Z_][a-zA-Z0-9_]*=/ py_value"#);
        let arguments = r#"[py_argument (SPACE "," SPACE py_argument)*] ")""#;
        self.each(|index, name| {
            format!("object_{index} | {} {arguments}", literal(&format!("{name}(")))
        })
    }

    fn fenced(&mut self, close: &str) -> String {
        let begin = self.mark("<｜tool▁call▁begin｜>");
        let sep = self.mark("<｜tool▁sep｜>");
        let end = self.mark("<｜tool▁call▁end｜>");
        let call = self.each(|index, name| {
            let (line, name) = (literal(&format!("{name}\n```json\n")), literal(name));
            format!(
                "\"function\" {sep} {line} arguments_{index} \"\\n```\" | \
                 {name} {sep} arguments_{index}"
            )
        });
        let call = format!("{begin} {call} SPACE {end}");
        match self.shape.parallel {
            true => format!("SPACE {call} (SPACE {call})*{close}"),
            false => format!("SPACE {call}{close}"),
        }
    }
}

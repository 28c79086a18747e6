//! The chat templates of `tests/data/templates`.

use serde_json::Value;

use super::data;

/// A template, and the texts of BOS and EOS that go with it.
pub struct Source {
    pub name: String,
    pub text: String,
    pub bos: Option<String>,
    pub eos: Option<String>,
}

/// A JSON file of the folder, packed or not.
pub fn file(name: &str) -> Value {
    let path = data(&format!("templates/{name}"));
    match path.extension().is_some_and(|end| end == "xz") {
        true => {
            let packed = std::fs::File::open(path).unwrap();
            serde_json::from_reader(lzma_rust2::XzReader::new(packed, false)).unwrap()
        }
        false => serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
    }
}

/// All templates.
pub fn all() -> Vec<Source> {
    let source = |name: &str, one: &Value, tokens: &Value| Source {
        name: name.to_owned(),
        text: one["template"].as_str().unwrap().to_owned(),
        bos: tokens["bos_token"].as_str().map(str::to_owned),
        eos: tokens["eos_token"].as_str().map(str::to_owned),
    };
    let more = file("more.json.xz");
    let mut found: Vec<Source> =
        more.as_object().unwrap().iter().map(|(name, one)| source(name, one, one)).collect();
    for family in ["llama-3.1.json", "mistral-7b-instruct.json", "phi-3.json", "qwen2.5.json"] {
        let family = file(family);
        let templates = family["templates"].as_array().unwrap().iter();
        found.extend(templates.map(|one| source(one["name"].as_str().unwrap(), one, &family)));
    }
    let tools = file("tools.json.xz");
    let templates = tools["templates"].as_array().unwrap().iter();
    found.extend(templates.map(|one| source(one["name"].as_str().unwrap(), one, one)));
    found
}

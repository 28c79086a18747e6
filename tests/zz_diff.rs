use serde_json::Value;
use tramontane::template::{Chat, ChatTemplate};
#[test]
fn diff() {
    let all: Value = serde_json::from_str(&std::fs::read_to_string("/tmp/cases.json").unwrap()).unwrap();
    let mut bad = 0;
    for case in all["cases"].as_array().unwrap() {
        let source = case["source"].as_str().unwrap();
        let chat = Chat { messages: all["messages"].as_array().unwrap(), add_generation_prompt: true, variables: all["variables"].as_object().unwrap().clone(), ..Chat::default() };
        let ours = ChatTemplate::new(source, Some("<s>"), Some("</s>")).map(|t| t.with_time(1_736_944_496)).and_then(|t| t.render(&chat));
        let ok = match (&ours, case["output"].as_str()) { (Ok(a), Some(b)) => a == b, (Err(_), None) => true, _ => false };
        if !ok { bad += 1; eprintln!("{source:?}\n   ours {ours:?}\n   ref  {}", case.get("output").or(case.get("error")).unwrap()); }
    }
    eprintln!("{bad} differ");
}

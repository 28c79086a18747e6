//! Which tokens end an answer: those that keys of the file name, and those whose text says
//! so.

/// Texts that end a turn in every vocabulary that has them. Some files list them as ordinary
/// or user-defined pieces (`<|end|>` in Phi-3); they count as control tokens all the same, so
/// that no user can write one. The first that is found is the end-of-turn token where no key
/// names one.
const TURN_TEXTS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    END,
    "<end_of_turn>",
    "<EOT>",
    // Code Llama's, as SentencePiece spells it, and as some converters do.
    "\u{2581}<EOT>",
    "_<EOT>",
    "[EOT]",
    "<turn|>",
    "<end_of_utterance>",
];

/// Texts that end a message or the whole text, in the same way.
const TEXT_TEXTS: [&str; 13] = [
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    RETURN,
    CALL,
    CALLS,
    FLUSH,
    "<eos>",
    "[EOS]",
    "[e~[",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    TOOL_RESPONSE,
    EOS,
];

const END: &str = "<|end|>";
const EOS: &str = "</s>";
const RETURN: &str = "<|return|>";
const CALL: &str = "<|call|>";
const CALLS: &str = "<|calls|>";
const FLUSH: &str = "<|flush|>";
const TOOL_RESPONSE: &str = "<|tool_response>";

/// Texts of a code model's own files: what comes after one is another file. Unlike the ends
/// of turns they stay what the file says they are.
const FILE_TEXTS: [&str; 11] = [
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The tokens that end an answer.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    /// Those, and all others; ascending.
    pub all: Vec<u32>,
}

/// The tokens whose text ends a turn or a text. `find` gives the token of a text.
pub(super) fn texts(find: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    let all = TURN_TEXTS.iter().chain(&TEXT_TEXTS);
    all.filter(|text| ends(text, &find)).filter_map(|text| find(text)).collect()
}

/// Whether `text` ends something in this vocabulary: two texts do not in some.
fn ends(text: &str, find: impl Fn(&str) -> Option<u32>) -> bool {
    let has = |text: &str| find(text).is_some();
    let calls = has(CALL) || has(CALLS);
    match text {
        // A message of several in one answer (gpt-oss, Solar).
        END => !(calls && (has(RETURN) || has(FLUSH))),
        // An ordinary token of Gemma 4.
        EOS => !has(TOOL_RESPONSE),
        _ => true,
    }
}

impl Ends {
    /// `named` gives the tokens that a key names, `find` the token of a text; `standard` is
    /// the end-of-sequence token where no key names one.
    pub fn find(
        mut named: impl FnMut(&str) -> Vec<u32>,
        find: impl Fn(&str) -> Option<u32>,
        standard: Option<u32>,
    ) -> Self {
        let mut all = texts(&find);
        let mut by_key = |name: &str| {
            // The second is what Ollama writes for a model with several.
            let ids = [named(&format!("{name}_id")), named(&format!("{name}_ids"))].concat();
            all.extend(&ids);
            ids.first().copied()
        };
        let turn_end =
            TURN_TEXTS.iter().filter(|text| ends(text, &find)).find_map(|text| find(text));
        let eos = by_key("eos_token").or(standard);
        let eot = by_key("eot_token").or(turn_end);
        let eom = by_key("eom_token").or_else(|| find("<|eom_id|>"));
        for name in ["fim_pad_token", "fim_rep_token", "fim_sep_token"] {
            by_key(name);
        }
        all.extend(FILE_TEXTS.iter().filter_map(|text| find(text)));
        all.extend(eos);
        // Also if a key names them.
        let not: Vec<u32> =
            [END, EOS].into_iter().filter(|text| !ends(text, &find)).filter_map(&find).collect();
        all.retain(|id| !not.contains(id));
        all.sort_unstable();
        all.dedup();
        Ends { eos, eot, eom, all }
    }
}

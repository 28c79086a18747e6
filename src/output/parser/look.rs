//! What is looked for in which state.

use crate::output::context::Context;
use crate::output::markers::Finder;
use crate::output::syntax::Tag;
use crate::output::whole::FENCE;

/// What is looked for in which state.
#[derive(Debug, Clone)]
pub(super) struct Finders {
    pub(super) text: Finder,
    /// By the tag of thoughts: its end, then openings.
    pub(super) thoughts: Vec<Finder>,
    pub(super) channel: Finder,
}

/// What a marker at the beginning of an answer is.
pub(super) enum Sign {
    Open(usize),
    Thoughts(usize),
    Fence,
    /// Of no meaning.
    Drop,
}

/// What an answer may begin with.
pub(super) fn signs(context: &Context) -> Vec<(&str, Sign)> {
    let syntax = &context.syntax;
    let mut signs = Vec::new();
    for (index, opening) in syntax.openings.iter().enumerate() {
        signs.push((opening.text.as_str(), Sign::Open(index)));
    }
    for (index, tag) in syntax.thoughts.iter().enumerate() {
        signs.push((tag.open.as_str(), Sign::Thoughts(index)));
        signs.push((tag.close.as_str(), Sign::Drop));
    }
    let wraps = syntax.wraps.iter().flat_map(|tag| [&tag.open, &tag.close]);
    signs.extend(wraps.chain(&syntax.drops).map(|mark| (mark.as_str(), Sign::Drop)));
    signs.extend(context.calls().then_some((FENCE, Sign::Fence)));
    signs
}

impl Finders {
    pub(super) fn new(context: &Context) -> Self {
        let syntax = &context.syntax;
        let openings = || syntax.opening_texts().map(str::to_owned);
        let drops = || syntax.drops.iter().cloned();
        let wraps = syntax.wraps.iter().map(|tag| tag.close.clone());
        let fence = context.calls().then(|| FENCE.to_owned());
        let thoughts =
            |tag: &Tag| Finder::new([tag.close.clone()].into_iter().chain(openings()).collect());
        Finders {
            text: Finder::new(openings().chain(drops()).chain(wraps).chain(fence).collect()),
            thoughts: syntax.thoughts.iter().map(thoughts).collect(),
            channel: Finder::new(drops().chain(openings()).collect()),
        }
    }
}

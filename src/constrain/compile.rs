//! Constraints → parsers for one vocabulary. What was compiled is kept for the next request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, Once};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory, panic_utils};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

use super::compiled::{Compiled, lock};
use super::follow::Following;
use super::refuse;
use super::vocabulary::Vocabulary;
use super::{Constraint, TokenConstraint};

/// Bytes of compiled grammars that are kept, about.
const KEPT_BYTES: usize = 64 << 20;

/// Bytes of a compiled grammar: about so many, and so many for each of its text.
const BYTES: usize = 256 << 10;
const BYTES_PER_BYTE: usize = 32;

/// The longest grammar.
const MAX_TEXT: usize = 512 << 10;

/// Steps of the compiler: about 0.2 s and 45 MiB.
const COMPILE_STEPS: u64 = 350_000;

/// States of a lexer: up to 2.5 KiB each. A text of bounded length takes one per character.
const MAX_STATES: usize = 16_000;

/// The constraints of one vocabulary.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// The latest used last.
    kept: Mutex<VecDeque<Arc<Compiled>>>,
}

impl Grammars {
    /// Makes a vocabulary ready: up to a second for a large one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a vocabulary that is too large.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self> {
        Grammars::of(Arc::new(Vocabulary::new(tokenizer)?))
    }

    pub(super) fn of(vocabulary: TokEnv) -> Result<Self> {
        keep_panic_hook();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let caps = InferenceCapabilities::default();
        let mut factory = ParserFactory::new(&vocabulary, caps, &slices)
            .map_err(|error| Error::misuse(format!("constraint: {}", first_line(&error))))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = COMPILE_STEPS;
        limits.max_lexer_states = MAX_STATES;
        limits.verbose_errors = false;
        Ok(Grammars { factory, kept: Mutex::default() })
    }

    /// Compiles `constraint`, or finds it compiled. `blank`: whether the text may begin with a
    /// blank that is not shown.
    ///
    /// # Errors
    /// As [`Model::check_constraint`](crate::Model::check_constraint).
    pub fn start(&self, constraint: &Constraint, blank: bool) -> Result<Box<dyn TokenConstraint>> {
        let text = grammar(constraint, blank)?;
        if let Some(found) = self.find(&text) {
            return Ok(Box::new(Following::new(found)));
        }
        let matcher = self.compile_text(constraint, &text)?;
        let compiled = Arc::new(Compiled::new(text, matcher));
        self.keep(compiled.clone());
        Ok(Box::new(Following::new(compiled)))
    }

    /// Compiles `constraint`; it is not kept.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn compile(&self, constraint: &Constraint, blank: bool) -> Result<Matcher> {
        self.compile_text(constraint, &grammar(constraint, blank)?)
    }

    fn compile_text(&self, constraint: &Constraint, text: &str) -> Result<Matcher> {
        if text.len() > MAX_TEXT {
            return Err(refuse::too_large(text.len(), MAX_TEXT));
        }
        let grammar = TopLevelGrammar::from_lark(text.to_owned());
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|error| refuse::reason(constraint, &first_line(&error)))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Some grammars show only now that they allow nothing, or are too costly.
        matcher
            .compute_mask_or_eos()
            .map_err(|error| refuse::reason(constraint, &first_line(&error)))?;
        Ok(matcher)
    }

    fn find(&self, text: &str) -> Option<Arc<Compiled>> {
        let mut kept = lock(&self.kept);
        let place = kept.iter().position(|compiled| compiled.text == text)?;
        let found = kept.remove(place)?;
        kept.push_back(found.clone());
        Some(found)
    }

    fn keep(&self, compiled: Arc<Compiled>) {
        let mut kept = lock(&self.kept);
        kept.push_back(compiled);
        let bytes = |compiled: &Arc<Compiled>| BYTES + compiled.text.len() * BYTES_PER_BYTE;
        let mut all: usize = kept.iter().map(bytes).sum();
        while all > KEPT_BYTES
            && let Some(oldest) = kept.pop_front()
        {
            all -= bytes(&oldest);
        }
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

fn grammar(constraint: &Constraint, blank: bool) -> Result<String> {
    let blank = if blank { "\" \"? " } else { "" };
    Ok(format!("start: {blank}text\n{}", constraint.rules("text")?))
}

/// What went wrong, without the compiler's excerpts of the grammar.
fn first_line(error: &impl fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// llguidance turns panics into errors, and installs a panic hook for that once per process,
/// which would stay. The hook that was there before is put back: then only a bug of the
/// library is reported by it.
fn keep_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        let _ = panic_utils::catch_unwind(|| Ok(()));
        let _ = std::panic::take_hook();
        std::panic::set_hook(hook);
    });
}

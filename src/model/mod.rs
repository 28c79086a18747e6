//! A model: network, vocabulary and chat template of one GGUF file.

mod arch;
mod digest;
pub(crate) mod forward;
mod layer;
pub(crate) mod plan;
mod pooled;
mod sampling;
mod state;
pub(crate) mod transformer;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::constrain::{Constraint, Grammars, TokenConstraint};
use crate::error::{Error, Place, Result, Warning};
use crate::gguf::{Gguf, Metadata};
use crate::output::OutputSyntax;
use crate::sampler::SamplerOptions;
use crate::simd::Isa;
use crate::template::{Chat, ChatTemplate, Fold, Folded, mark};
use crate::tokenizer::Tokenizer;

pub(crate) use arch::Network;
use transformer::Transformer;

/// How to run a model. `Default` is right for most uses.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Threads per forward pass. Default: the physical cores that the affinity
    /// mask and the cgroup quota allow.
    pub threads: Option<usize>,
    /// The instruction set. Default: `TRAMONTANE_ISA` if set, else the CPU's best.
    pub isa: Option<Isa>,
    /// The sliding window: position i sees j with i − j < window. It takes the place of the
    /// file's, in the layers that have one, or in all layers of a file that names none
    /// (Mistral 7B v0.1: 4096). 0 is refused. Default: what the file says, else full
    /// attention.
    pub sliding_window: Option<usize>,
}

impl ModelOptions {
    setters! {
        with_threads(threads: impl Into<Option<usize>>);
        with_isa(isa: impl Into<Option<Isa>>);
        with_sliding_window(sliding_window: impl Into<Option<usize>>);
    }
}

/// A model ready to run. Cheap to clone; clones share the mapping and the threads.
///
/// ```
/// use tramontane::{Model, SessionOptions, GenerateOptions};
/// let model = Model::open("models/storyteller-q4_k_m.gguf")?;
/// let mut session = model.session(&SessionOptions::default())?;
/// let mut story = String::new();
/// for piece in session.generate("Once upon a time", &GenerateOptions::default())?.take(8) {
///     story += &piece?.text;
/// }
/// assert!(!story.is_empty());
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Model(pub(crate) Arc<Parts>);

/// A conversation as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatPrompt {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Whether they end within a message that the model continues.
    pub continues: bool,
    /// What was done so that the template takes the conversation.
    pub folds: Vec<Fold>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    transformer: Transformer,
    tokenizer: Arc<Tokenizer>,
    /// A template that does not compile is no reason not to open the model.
    template: Option<Result<ChatTemplate>>,
    /// What the file recommends.
    sampler_options: SamplerOptions,
    /// For [`Model::mark`].
    control_pieces: OnceLock<Vec<String>>,
    /// Found out when it is asked for.
    output: OnceLock<OutputSyntax>,
    /// Made ready for the first constraint.
    grammars: OnceLock<Result<Grammars>>,
    file: Gguf,
    warnings: Vec<Warning>,
    load_time: Duration,
    /// Computed when it is asked for.
    digest: OnceLock<[u8; 32]>,
}

impl Model {
    /// Opens a GGUF file (of a split model: its first file). Weights are mapped,
    /// not read.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Misuse`] for the path of a
    /// directory, [`Error::File`] for a damaged or incomplete file, [`Error::Unsupported`]
    /// for an architecture or tensor type that this version does not run.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Model::open_with(path, &ModelOptions::default())
    }

    /// [`open`](Model::open) with options.
    ///
    /// # Errors
    /// As [`open`](Model::open), and [`Error::Misuse`] for options that are out of range.
    pub fn open_with(path: impl AsRef<Path>, options: &ModelOptions) -> Result<Self> {
        let start = Instant::now();
        Model::build(Gguf::open(path)?, options, start)
    }

    /// Makes a model of an open GGUF file, for example one from bytes.
    ///
    /// # Errors
    /// As [`open_with`](Model::open_with), without those of the file system.
    pub fn from_gguf(file: Gguf, options: &ModelOptions) -> Result<Self> {
        Model::build(file, options, Instant::now())
    }

    fn build(file: Gguf, options: &ModelOptions, start: Instant) -> Result<Self> {
        let transformer = Transformer::new(&file, options)?;
        let metadata = file.metadata();
        let tokenizer = Tokenizer::from_gguf(arch::ollama::vocabulary(&file)?.as_ref())?;
        let (tokens, rows) = (tokenizer.n_vocab(), transformer.plan.n_vocab());
        if tokens > rows {
            let problem = format!("names {tokens} tokens, but the embedding has {rows} rows");
            return Err(Error::key("tokenizer.ggml.tokens", problem));
        }
        let template = ChatTemplate::from_gguf(metadata, &tokenizer).transpose();
        let mut warnings = warnings(metadata, &transformer, &tokenizer, &template);
        let sampler_options = sampling::options(metadata, &mut warnings);
        let load_time = start.elapsed();
        let digest = OnceLock::new();
        let (control_pieces, output) = (OnceLock::new(), OnceLock::new());
        let parts = Parts {
            transformer,
            tokenizer: Arc::new(tokenizer),
            template,
            sampler_options,
            control_pieces,
            output,
            grammars: OnceLock::new(),
            file,
            warnings,
            load_time,
            digest,
        };
        Ok(Model(Arc::new(parts)))
    }

    /// What is odd about the file, and what was assumed: keys that are not understood, ids
    /// that are no tokens, a chat template that does not compile. Nothing of it keeps the
    /// model from running; show it to who chose the file.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    pub(crate) fn transformer(&self) -> &Transformer {
        &self.0.transformer
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`Error::Template`] if the file has none or it is broken.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        match &self.0.template {
            Some(Ok(template)) => Ok(template),
            Some(Err(error)) => Err(Error::Template(error.to_string())),
            None => Err(Error::Template(
                "this model has none; use plain generation, or a model made for chat".into(),
            )),
        }
    }

    /// How the model writes thoughts and calls, by the file's own template.
    pub fn output_syntax(&self) -> &OutputSyntax {
        self.0.output.get_or_init(|| match &self.0.template {
            Some(Ok(template)) => OutputSyntax::probe(
                &|chat| template.render_own(chat),
                template.source(),
                self.tokenizer(),
            ),
            _ => OutputSyntax::default(),
        })
    }

    /// Compiles a constraint for this model's vocabulary and keeps it for the requests that
    /// use it. The first one makes the vocabulary ready, which takes up to a second.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a keyword of a JSON schema that cannot be kept, with its path,
    /// and where the crate is built without its feature `constrain`; [`Error::Misuse`] for what
    /// is no schema or grammar, allows nothing, or takes too many steps; [`Error::Limit`] for
    /// one that is too large.
    pub fn check_constraint(&self, constraint: &Constraint) -> Result<()> {
        // As a chat uses it.
        let blank = self.tokenizer().adds_space_prefix();
        self.follow(constraint, blank).map(|_| ())
    }

    /// A text at its start. `blank`: whether it may begin with a blank that is not shown.
    ///
    /// # Errors
    /// As [`check_constraint`](Model::check_constraint).
    pub(crate) fn follow(
        &self,
        constraint: &Constraint,
        blank: bool,
    ) -> Result<Box<dyn TokenConstraint>> {
        let grammars = self.0.grammars.get_or_init(|| Grammars::new(self.0.tokenizer.clone()));
        match grammars {
            Ok(grammars) => grammars.start(constraint, blank),
            Err(error) => Err(Error::unsupported(Place::Constraint, error.to_string())),
        }
    }

    /// The options of the sampler that the file recommends (keys `general.sampling.temp`,
    /// `top_k`, `top_p`, `min_p`, `penalty_repeat`, `penalty_last_n`), over the
    /// [defaults](SamplerOptions::default). Nothing uses them unasked:
    ///
    /// ```
    /// use tramontane::{GenerateOptions, Model};
    /// let model = Model::open("models/storyteller-q4_k_m.gguf")?;
    /// let sampler = model.sampler_options().clone().with_seed(7);
    /// let options = GenerateOptions::default().with_sampler(sampler);
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    pub fn sampler_options(&self) -> &SamplerOptions {
        &self.0.sampler_options
    }

    /// The tokens of a conversation, as the model's template puts it. Control
    /// tokens come from the template only: text of messages stays text. The conversation
    /// is [folded](crate::template::Fold) to what the template takes.
    ///
    /// # Errors
    /// As [`chat_template`](Model::chat_template) and [`ChatTemplate::fold`].
    pub fn chat_tokens(&self, chat: &Chat) -> Result<Vec<u32>> {
        Ok(self.chat_prompt(chat)?.tokens)
    }

    /// The same, with what was done to the conversation.
    ///
    /// # Errors
    /// As [`chat_tokens`](Model::chat_tokens).
    pub fn chat_prompt(&self, chat: &Chat) -> Result<ChatPrompt> {
        let folded = self.chat_template()?.fold(chat)?;
        Ok(self.encode_folded(folded))
    }

    /// The tokens of a conversation that was folded.
    pub fn encode_folded(&self, folded: Folded) -> ChatPrompt {
        let Folded { prompt, continues, folds } = folded;
        ChatPrompt { tokens: self.tokenizer().encode_chat(&prompt), continues, folds }
    }

    /// `text` for a prompt that a template engine of one's own makes
    /// ([`Prompt::from_marked`](crate::Prompt::from_marked)): with marks wherever it could
    /// become a control token, which [`Tokenizer::encode_chat`] reads and drops.
    pub fn mark<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let pieces = || self.tokenizer().control_pieces().map(str::to_owned).collect();
        mark(text, self.0.control_pieces.get_or_init(pieces))
    }

    /// Whether it can continue texts. Encoders cannot: they make vectors or scores of whole
    /// texts.
    pub fn generates(&self) -> bool {
        self.0.transformer.plan.head.output.is_some()
    }

    /// Whether models of the architecture (the key `general.architecture` of a file) are
    /// encoders, which [generate](Model::generates) no text.
    pub fn is_encoder(architecture: &str) -> bool {
        arch::is_encoder(architecture)
    }

    /// # Errors
    /// [`Error::Unsupported`] for a model that does not generate text.
    pub(crate) fn check_generates(&self) -> Result<()> {
        if self.generates() {
            return Ok(());
        }
        let key = "general.architecture";
        let name = self.metadata().opt_str(key).ok().flatten().unwrap_or_default();
        let problem =
            format!("{name} is an encoder, which makes vectors of texts and generates none");
        Err(Error::unsupported(Place::Key(key.into()), problem))
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.0.file.metadata()
    }

    /// The file.
    pub fn file(&self) -> &Gguf {
        &self.0.file
    }

    /// The model's own name, if the file gives one.
    pub fn name(&self) -> Option<&str> {
        self.metadata().opt_str("general.name").ok().flatten()
    }

    /// Positions that the model was trained for.
    pub fn context_length(&self) -> usize {
        self.0.transformer.context_length
    }

    /// The sliding window in use: position i sees j with i − j < window. Of the layers that
    /// have one, the first's; `None` if all see everything.
    pub fn sliding_window(&self) -> Option<usize> {
        self.0.transformer.plan.kv_layers().iter().find_map(|layer| layer.window)
    }

    /// Number of logits per position: the rows of the output matrix. May exceed
    /// the tokenizer's vocabulary (padding).
    pub fn n_vocab(&self) -> usize {
        self.0.transformer.plan.n_vocab()
    }

    /// Threads per forward pass.
    pub fn threads(&self) -> usize {
        self.0.transformer.pool.threads()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.0.transformer.isa
    }

    /// How long opening took.
    pub fn load_time(&self) -> Duration {
        self.0.load_time
    }
}

/// What all parts found odd.
fn warnings(
    metadata: &Metadata,
    transformer: &Transformer,
    tokenizer: &Tokenizer,
    template: &Option<Result<ChatTemplate>>,
) -> Vec<Warning> {
    let mut all = [&*transformer.warnings, tokenizer.warnings()].concat();
    for (key, problem) in metadata.unreadable() {
        all.push(Warning::key(key, format!("is ignored: {problem}")));
    }
    if let Some(Err(error)) = template {
        all.push(Warning::key("tokenizer.chat_template", format!("is not used: {error}")));
    }
    all
}

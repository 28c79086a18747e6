//! How relevant documents are to a query, by a model with a classifier.

use crate::error::{Bounded, Error, Result};
use crate::model::Model;
use crate::tokenizer::{EncodeOptions, Prompt};

use super::embed::{EmbedOptions, Tokens};

/// How a reranker that is a decoder wants query and document.
const TEMPLATE: &str = "tokenizer.chat_template.rerank";

/// How relevant a document is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The higher the more relevant. What the classifier gives: of encoders any number,
    /// whose sigmoid many read as a probability, of Qwen3's rerankers a probability.
    pub score: f32,
    /// Tokens of query and document together.
    pub tokens: usize,
}

/// The tokens of a query and a document.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub tokens: Vec<u32>,
    /// Where the document begins, for models that tell the two apart.
    pub second: Option<usize>,
}

impl Model {
    /// The relevance of each of `documents` to `query`, in their order. Texts of control
    /// tokens in them are text. A score does not depend on what else is computed with it.
    /// Of `options` the pooling and the length are the classifier's own.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a model without a classifier; [`Error::Limit`] for a query and
    /// a document that do not fit the context, unless the document is to be cut;
    /// [`Error::NonFinite`] if the network computes NaN or infinity.
    pub fn rerank(
        &self,
        query: &str,
        documents: &[impl AsRef<str>],
        options: &EmbedOptions,
    ) -> Result<Vec<Score>> {
        let num_ctx = self.embed_ctx(options.num_ctx)?;
        let mut pairs = Vec::with_capacity(documents.len());
        for document in documents {
            let Pair { tokens, second } =
                self.pair(query, document.as_ref(), num_ctx, options.truncate)?;
            pairs.push(Tokens { all: tokens.into(), second });
        }
        self.score_each(&pairs, options)
    }

    /// The relevance that tokens of pairs have, as a classifier reads them: for those who
    /// put queries and documents together themselves.
    ///
    /// # Errors
    /// As [`rerank`](Model::rerank), and [`Error::Misuse`] for a pair without tokens or with
    /// one outside the vocabulary.
    pub fn rerank_tokens(
        &self,
        pairs: &[impl AsRef<[u32]>],
        options: &EmbedOptions,
    ) -> Result<Vec<Score>> {
        let num_ctx = self.embed_ctx(options.num_ctx)?;
        let mut all = Vec::with_capacity(pairs.len());
        for (i, pair) in pairs.iter().enumerate() {
            all.push(Tokens { all: self.fitting(i, pair.as_ref(), num_ctx, false)?, second: None });
        }
        self.score_each(&all, options)
    }

    fn score_each(&self, pairs: &[Tokens<'_>], options: &EmbedOptions) -> Result<Vec<Score>> {
        let transformer = self.transformer();
        let pooling = transformer.classifier()?.pooling;
        let mut scores = Vec::with_capacity(pairs.len());
        self.pool_each(pairs, pooling, options, |pool, tokens| {
            let score = transformer.classify(pool.finish(false)?)?;
            scores.push(Score { score, tokens });
            Ok(())
        })?;
        Ok(scores)
    }

    /// The tokens of `query` and `document`, at most `num_ctx`.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a model without a classifier; [`Error::Limit`] for more, unless
    /// the document is to be cut and the query alone fits.
    pub(super) fn pair(
        &self,
        query: &str,
        document: &str,
        num_ctx: usize,
        truncate: bool,
    ) -> Result<Pair> {
        self.transformer().classifier()?;
        let Whole { mut tokens, document, behind, second } = self.pair_tokens(query, document)?;
        let over = tokens.len().saturating_sub(num_ctx);
        if over > 0 {
            let end = tokens.len() - behind;
            if !truncate || document + over > end {
                return Err(Error::limit(Bounded::Context, tokens.len(), num_ctx));
            }
            tokens.drain(end - over..end);
        }
        Ok(Pair { tokens, second })
    }

    fn pair_tokens(&self, query: &str, document: &str) -> Result<Whole> {
        let tokenizer = self.tokenizer();
        let Some(template) = self.metadata().opt_str(TEMPLATE)? else {
            let (tokens, second) = tokenizer.encode_pair(query, document);
            let behind = usize::from(tokens.last().is_some_and(|&id| tokenizer.is_control(id)));
            return Ok(Whole { tokens, document: second, behind, second: Some(second) });
        };
        let Some((before, after)) = template.split_once("{document}") else {
            return Err(Error::key(TEMPLATE, "has no place for {document}"));
        };
        let query = self.mark(query);
        let encode = |prompt: String| tokenizer.encode_chat(&Prompt::from_marked(prompt));
        let (before, after) = (before.replace("{query}", &query), after.replace("{query}", &query));
        let tokens = encode(format!("{before}{}{after}", self.mark(document)));
        // Where tokens reach over the ends of the document, it cannot be cut.
        let options = EncodeOptions::default().with_bos(false).with_special(true);
        let behind = tokenizer.encode(&after, options);
        let behind = if tokens.ends_with(&behind) { behind.len() } else { tokens.len() };
        Ok(Whole { document: encode(before).len(), tokens, behind, second: None })
    }
}

/// The tokens of a whole pair.
struct Whole {
    tokens: Vec<u32>,
    /// Where those of the document begin.
    document: usize,
    /// How many stand behind it.
    behind: usize,
    /// As in [`Pair`].
    second: Option<usize>,
}

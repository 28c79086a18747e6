//! In place of the template engine where it is left out: no template compiles.

use super::{Chat, KEY, NoTools};
use crate::error::{Error, Place, Result};

/// There is none.
pub(super) enum Jinja {}

impl Jinja {
    pub fn new(_source: &str) -> Result<Self> {
        let problem = "needs the feature `chat-template`, which this program was built without";
        Err(Error::unsupported(Place::Key(KEY.to_owned()), problem))
    }

    pub fn set_clock(&mut self, _unix_seconds: u64) {
        match *self {}
    }

    pub fn render(
        &self,
        _chat: &Chat,
        _no_tools: NoTools,
        _tokens: &[(&'static str, String)],
        _control_pieces: &[String],
    ) -> Result<String> {
        match *self {}
    }
}

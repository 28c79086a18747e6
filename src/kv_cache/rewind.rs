//! Taking a cache back to fewer positions.

use std::sync::Arc;

use super::block::Block;
use super::budget::Charge;
use super::{KvCache, KvLayer, Layer, PAGE, first_seen};
use crate::error::{Error, Result};

impl KvCache {
    /// The most positions, up to `len`, that the cache can be taken back to. Without
    /// recurrent layers that is `len` itself, or 0 where a sliding window has dropped what
    /// the position there would see: always `len` for the last
    /// [`MOST_BACK`](KvCache::MOST_BACK) of the most ever held. With recurrent layers it is a
    /// position of which there is a state.
    pub(crate) fn reachable(&self, len: usize) -> usize {
        let len = len.min(self.len);
        match self.shape.states().is_empty() {
            true if self.holds(len) => len,
            true => 0,
            false => self.states.up_to(len).find(|&len| self.holds(len)).unwrap_or(0),
        }
    }

    /// Whether all that the position after the first `len` sees is held.
    fn holds(&self, len: usize) -> bool {
        let layers = self.layers.iter().zip(self.shape.layers());
        let held =
            |(layer, of): (&Layer, &KvLayer)| layer.begin * PAGE <= first_seen(len, of.window);
        layers.into_iter().all(held)
    }

    /// Takes the cache back to the most positions up to `len` that can be
    /// [reached](KvCache::reachable), and returns how many those are: what is missing up
    /// to `len` has to be computed again. Starting again from 0, because no more could be
    /// reached, may end the reservation.
    pub(crate) fn rewind_to(&mut self, len: usize) -> usize {
        let reachable = self.reachable(len);
        match self.holds(reachable) {
            true => self.cut(reachable),
            false => self.clear(),
        }
        reachable
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Errors
    /// [`Error::Misuse`] if `len` is more than is held or cannot be
    /// [reached](KvCache::reachable). Nothing is changed then;
    /// [`clear`](KvCache::clear) and feed again.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len {
            let held = self.len;
            return Err(Error::misuse(format!("cannot truncate {held} positions to {len}")));
        }
        if self.reachable(len) != len {
            let why = match self.shape.states().is_empty() {
                true => "the sliding window has dropped what the next one would see",
                false => "the state of the recurrent layers there is not kept",
            };
            return Err(Error::misuse(format!("cannot truncate to {len} positions: {why}")));
        }
        self.rewind_to(len);
        Ok(())
    }

    /// Forgets the positions from `len` on. Blocks freed return to the reservation; those
    /// of the last [`MOST_BACK`](KvCache::MOST_BACK) positions stay where they are its
    /// own, they will be needed again.
    fn cut(&mut self, len: usize) {
        let (of_block, back) = (self.shape.block_positions(), self.len - len);
        let mut freed = Vec::new();
        for layer in &mut self.layers {
            let held = layer.blocks.len();
            let needed = len.div_ceil(of_block).saturating_sub(layer.first).min(held);
            // One that is shared would be copied to be written: it is no help.
            let own = |block: &&Arc<Block>| Arc::strong_count(block) == 1;
            let ready = match back > KvCache::MOST_BACK {
                true => 0,
                false => layer.blocks.iter().skip(needed).take_while(own).count(),
            };
            freed.extend(layer.blocks.drain(needed + ready..));
            layer.end = layer.end.min(len.div_ceil(PAGE));
        }
        self.len = len;
        let charges = self.states.cut(len);
        self.give_back(freed, charges);
    }

    /// Returns blocks that nobody else holds, and what states have cost, to the
    /// reservation, if there is one.
    pub(super) fn give_back(&mut self, freed: Vec<Arc<Block>>, mut charges: Vec<Charge>) {
        if self.target.is_none() {
            return;
        }
        charges.extend(freed.into_iter().filter_map(Arc::into_inner).map(Block::unmap));
        if charges.is_empty() {
            return;
        }
        charges.into_iter().for_each(|charge| self.promise.regain(charge));
        self.settle();
    }
}

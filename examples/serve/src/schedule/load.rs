//! Getting a model: from memory, or by making room and loading it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tramontane::{Engine, EngineOptions, MemoryEstimate, Model, ModelOptions};

use crate::task::blocking;

use super::slot::Slot;
use super::{Lease, ScheduleError, Scheduler, Shared, Source, Want};

/// Models in memory if nobody says: Ollama's number for a CPU.
const MAX_LOADED: usize = 3;
/// Conversations of default length if nobody says.
const NUM_PARALLEL: usize = 4;

/// A request in the queue; counted as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open model, and what it would take.
struct Opened {
    model: Model,
    /// Weights and scratch.
    fixed: u64,
    /// Keys and values of one conversation of default length.
    one: usize,
    /// Keys and values of the conversation that is asked for.
    asked: usize,
}

impl Scheduler {
    /// A model in memory, for one request. Dropping the future gives up.
    ///
    /// # Errors
    /// The queue is full; the model cannot be loaded, or is too large; the server ends.
    pub async fn acquire(
        &self,
        name: &str,
        source: &Source,
        want: Want,
    ) -> Result<Lease, ScheduleError> {
        let shared = &self.0;
        let asked = Instant::now();
        if let Some(lease) = shared.lease(source, &want, asked)? {
            return Ok(lease);
        }
        let waiting = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&shared.waiting);
        if waiting >= shared.options.max_queue {
            shared.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(ScheduleError::Busy);
        }
        // First come, first served.
        let _loading = shared.loading.lock().await;
        if let Some(lease) = shared.lease(source, &want, asked)? {
            return Ok(lease);
        }
        let opened = shared.open(source, &want).await?;
        shared.make_room(source, &opened).await?;
        shared.load(name, source, &want, opened).await?;
        // Nobody else loads, and what was just loaded is not evicted.
        shared.lease(source, &want, asked)?.ok_or(ScheduleError::Cancelled)
    }
}

impl Shared {
    /// A lease of what is loaded already and has the room.
    fn lease(
        self: &Arc<Self>,
        source: &Source,
        want: &Want,
        asked: Instant,
    ) -> Result<Option<Lease>, ScheduleError> {
        if self.draining.load(Ordering::Acquire) {
            return Err(ScheduleError::ShuttingDown);
        }
        let mut slots = self.slots();
        let Some(slot) = slots.iter_mut().find(|slot| slot.source == *source) else {
            return Ok(None);
        };
        let model = slot.engine.model().clone();
        let num_ctx = self.num_ctx(&model, want);
        if self.kv_bytes(&model, num_ctx) > slot.kv_bytes {
            return Ok(None);
        }
        if let Some(asked) = want.num_ctx.filter(|&asked| asked > num_ctx) {
            tracing::warn!(
                name = slot.name,
                asked,
                trained = num_ctx,
                "num_ctx is more than the model was trained for; that is used"
            );
        }
        slot.num_ctx = num_ctx;
        slot.in_use += 1;
        slot.last_used = asked;
        // As in Ollama, a request that does not say changes nothing.
        slot.keep_alive = want.keep_alive.unwrap_or(slot.keep_alive);
        Ok(Some(Lease {
            shared: self.clone(),
            id: slot.id,
            engine: Some(slot.engine.clone()),
            num_ctx,
            load_duration: asked.elapsed(),
            model,
        }))
    }

    /// Positions that a request gets: what it says or the default, as far as the model
    /// was trained for.
    fn num_ctx(&self, model: &Model, want: &Want) -> usize {
        want.num_ctx.unwrap_or(self.options.num_ctx).min(model.context_length()).max(1)
    }

    /// Bytes of keys and values of one conversation.
    fn kv_bytes(&self, model: &Model, num_ctx: usize) -> usize {
        let estimate = MemoryEstimate::of(model, &self.engine_options(num_ctx, None));
        estimate.map_or(usize::MAX, |estimate| estimate.kv_per_conversation)
    }

    fn engine_options(&self, num_ctx: usize, kv_bytes: Option<usize>) -> EngineOptions {
        EngineOptions::default()
            .with_num_ctx(num_ctx)
            .with_kv_bytes(kv_bytes)
            .with_kv_type(self.options.kv_type)
            .with_max_queue(self.options.max_queue.max(1))
    }

    /// Opens the file: its weights are mapped, not read.
    async fn open(&self, source: &Source, want: &Want) -> Result<Opened, ScheduleError> {
        let options = ModelOptions::default().with_threads(self.options.threads);
        let opening = {
            let source = source.clone();
            blocking(move || {
                let opened = match source {
                    Source::File(path) => Model::open_with(path, &options),
                    Source::Builtin => crate::builtin::model(&options),
                };
                opened.map_err(not_opened)
            })
        };
        let limit = self.options.load_timeout.unwrap_or(Duration::MAX);
        let opened = tokio::time::timeout(limit, opening).await;
        let opened = opened.map_err(|_| ScheduleError::Timeout(limit))?;
        let model = opened?;
        for warning in model.warnings() {
            tracing::warn!(%warning, "odd, the model runs all the same");
        }
        let default = self.options.num_ctx.min(model.context_length()).max(1);
        let estimate = MemoryEstimate::of(&model, &self.engine_options(default, None));
        let estimate = estimate.map_err(ScheduleError::Load)?;
        let one = estimate.kv_per_conversation;
        let asked = self.kv_bytes(&model, self.num_ctx(&model, want));
        let fixed = estimate.weights + estimate.scratch + estimate.vocabulary;
        Ok(Opened { fixed: fixed as u64, one, asked, model })
    }

    /// Waits until the model fits: idle models go, the least recently used first; those
    /// in use are waited for.
    async fn make_room(&self, source: &Source, opened: &Opened) -> Result<(), ScheduleError> {
        let needed = opened.fixed + opened.asked.max(opened.one) as u64;
        if needed > self.memory {
            return Err(ScheduleError::TooLarge { needed, allowed: self.memory });
        }
        let most = match self.options.max_loaded {
            0 => MAX_LOADED,
            most => most,
        };
        let mut changed = self.changed.subscribe();
        loop {
            if self.draining.load(Ordering::Acquire) {
                return Err(ScheduleError::ShuttingDown);
            }
            let (fits, victim) = {
                let slots = self.slots();
                // The same model with too little room has to go in any case.
                let same = slots.iter().find(|slot| slot.source == *source);
                let taken: u64 = slots.iter().map(|slot| slot.size).sum();
                let fits = same.is_none()
                    && slots.len() < most
                    && taken.saturating_add(needed) <= self.memory;
                let idle = slots.iter().filter(|slot| slot.in_use == 0);
                let oldest = idle.min_by_key(|slot| slot.last_used);
                let victim = match same {
                    Some(same) => Some(same).filter(|slot| slot.in_use == 0),
                    None => oldest,
                };
                (fits, victim.map(|slot| slot.id))
            };
            match victim {
                _ if fits => return Ok(()),
                // Somebody may have taken it meanwhile.
                Some(id) => {
                    let gone = self.remove_if(id, |slot| slot.in_use == 0);
                    self.evictions.fetch_add(u64::from(gone), Ordering::Relaxed);
                }
                // The sender lives as long as `self`.
                None => drop(changed.changed().await),
            }
        }
    }

    /// Starts the engine, with memory for as many conversations as are wanted and fit.
    async fn load(
        &self,
        name: &str,
        source: &Source,
        want: &Want,
        opened: Opened,
    ) -> Result<(), ScheduleError> {
        let parallel = match self.options.num_parallel {
            0 => NUM_PARALLEL,
            parallel => parallel,
        };
        let taken: u64 = self.slots().iter().map(|slot| slot.size).sum();
        let room = self.memory.saturating_sub(taken).saturating_sub(opened.fixed);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let least = opened.asked.max(opened.one);
        let kv_bytes = opened.one.saturating_mul(parallel).min(room).max(least);
        let model = opened.model;
        let num_ctx = self.options.num_ctx.min(model.context_length()).max(1);
        let options = self.engine_options(num_ctx, Some(kv_bytes));
        let starting = blocking(move || Engine::new(&model, &options).map_err(ScheduleError::Load));
        let engine = Arc::new(starting.await?);
        self.loads.fetch_add(1, Ordering::Relaxed);
        tracing::info!(name, "loaded");
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.slots().push(Slot {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            source: source.clone(),
            engine,
            size: opened.fixed + kv_bytes as u64,
            kv_bytes,
            num_ctx,
            info: want.info.clone(),
            in_use: 0,
            keep_alive: want.keep_alive.unwrap_or(self.options.keep_alive),
            last_used: Instant::now(),
        });
        Ok(())
    }
}

fn not_opened(error: tramontane::Error) -> ScheduleError {
    match error {
        tramontane::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ScheduleError::NotFound
        }
        error => ScheduleError::Load(error),
    }
}

//! What every API asks of a model, and what comes back.

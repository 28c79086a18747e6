//! Pulling and pushing models by the registry protocol.

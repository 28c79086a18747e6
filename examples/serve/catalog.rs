//! The models that this server can run: those of the store, files, the built-in one.

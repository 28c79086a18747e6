//! Pull and push, against a registry that may lie.

mod ends;
mod hostile;
mod hostile_cases;
mod progress;
mod push;
mod refused;
mod resume;

use std::fs;
use std::time::Duration;

use serde_json::Value;

use tramontane_serve::name::ModelName;
use tramontane_serve::registry::{Progress, Registry, RegistryOptions};
use tramontane_serve::store::{Digest, Store};

use crate::support::registry::*;

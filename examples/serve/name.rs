//! Model names: `[host/][namespace/]model[:tag]`.

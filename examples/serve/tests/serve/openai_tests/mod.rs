//! OpenAI's and Anthropic's routes: requests and replies as data, and with the built-in
//! model through the router.

mod replies;
mod requests;
mod routes;

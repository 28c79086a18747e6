//! The APIs of OpenAI and Anthropic, `/v1/…`.

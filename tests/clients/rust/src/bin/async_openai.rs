//! A session of `async-openai` with the server at BASE_URL.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequest,
    CreateChatCompletionRequestArgs,
};
use async_openai::types::embeddings::CreateEmbeddingRequestArgs;
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = format!("{}/v1", std::env::var("BASE_URL")?);
    let client = Client::with_config(OpenAIConfig::new().with_api_base(base).with_api_key("none"));

    let models = client.models().list().await?;
    assert!(models.data.iter().any(|model| model.id == "storyteller:latest"));

    let question = || -> Result<CreateChatCompletionRequest, Box<dyn std::error::Error>> {
        let user = ChatCompletionRequestUserMessageArgs::default()
            .content("Tell me a story about a cat.")
            .build()?;
        Ok(CreateChatCompletionRequestArgs::default()
            .model("storyteller")
            .max_completion_tokens(24u32)
            .temperature(0.0)
            .messages([user.into()])
            .build()?)
    };
    let whole = client.chat().create(question()?).await?;
    let text = whole.choices[0].message.content.clone().unwrap_or_default();
    assert!(!text.is_empty());
    assert_eq!(whole.usage.map(|usage| usage.completion_tokens), Some(24));

    let mut stream = client.chat().create_stream(question()?).await?;
    let mut streamed = String::new();
    while let Some(chunk) = stream.next().await {
        for choice in chunk?.choices {
            streamed += &choice.delta.content.unwrap_or_default();
        }
    }
    assert_eq!(streamed, text);

    let request = CreateEmbeddingRequestArgs::default()
        .model("storyteller")
        .input(["a cat", "a dog"])
        .build()?;
    assert_eq!(client.embeddings().create(request).await?.data.len(), 2);
    println!("async-openai: ok");
    Ok(())
}

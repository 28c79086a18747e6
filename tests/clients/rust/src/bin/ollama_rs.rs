//! A session of `ollama-rs` with the server at BASE_URL.

use futures_util::StreamExt;
use ollama_rs::Ollama;
use ollama_rs::generation::chat::ChatMessage;
use ollama_rs::generation::chat::request::ChatMessageRequest;
use ollama_rs::generation::completion::request::GenerationRequest;
use ollama_rs::generation::embeddings::request::{EmbeddingsInput, GenerateEmbeddingsRequest};
use ollama_rs::models::ModelOptions;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Ollama::try_new(std::env::var("BASE_URL")?)?;
    let model = || "storyteller".to_owned();
    let options = || ModelOptions::default().temperature(0.0).num_predict(24);

    let models = client.list_local_models().await?;
    assert!(models.iter().any(|model| model.name == "storyteller:latest"));
    assert!(!client.show_model_info(model()).await?.modelfile.is_empty());

    let request = || GenerationRequest::new(model(), "Once upon a time").options(options());
    let whole = client.generate(request()).await?;
    assert!(whole.done && whole.eval_count == Some(24));
    let mut stream = client.generate_stream(request()).await?;
    let mut text = String::new();
    while let Some(parts) = stream.next().await {
        parts?.into_iter().for_each(|part| text += &part.response);
    }
    assert_eq!(text, whole.response);

    let question = vec![ChatMessage::user("Tell me a story about a cat.".into())];
    let request = ChatMessageRequest::new(model(), question).options(options());
    let answer = client.send_chat_messages(request).await?;
    assert!(!answer.message.content.is_empty());

    let input = EmbeddingsInput::Multiple(vec!["a cat".into(), "a dog".into()]);
    let vectors = client.generate_embeddings(GenerateEmbeddingsRequest::new(model(), input)).await?;
    assert_eq!(vectors.embeddings.len(), 2);

    let missing = client.generate(GenerationRequest::new("missing".into(), "x")).await;
    assert!(missing.is_err_and(|error| error.to_string().contains("not found")));
    println!("ollama-rs: ok");
    Ok(())
}

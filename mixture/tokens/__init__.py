"""Text to tokens, once: tokenizers, and the store that keeps what they made."""

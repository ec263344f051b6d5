"""A language model that scores answers from 0 to 100 through any OpenAI-compatible endpoint."""

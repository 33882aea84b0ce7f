"""The dialect of OpenAI's interface: what its clients send, and what they read."""

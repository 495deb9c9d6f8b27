"""The rollout side: the agent loop, and the Thinker in vLLM."""

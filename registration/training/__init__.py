"""Networks that learn to register: data, training, checkpoints."""

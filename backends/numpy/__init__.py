"""The reference: forward only, written for clarity, in the dtype of its arguments."""

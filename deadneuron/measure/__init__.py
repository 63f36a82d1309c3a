"""Below the waist: what touches a running model. torch, and no pandas."""

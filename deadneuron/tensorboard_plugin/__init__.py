"""The "Dead neurons" tab of TensorBoard. It imports no torch, and a failure inside it leaves TensorBoard as it is."""

"""Attention kernels that return a log-sum-exp, so that two attentions can be merged, and the choice among them."""

"""What an answer is worth, and how sure that is: mIoU, temporal consistency, flicker, confidence intervals."""

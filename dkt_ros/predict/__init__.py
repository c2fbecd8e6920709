"""The seam above the network: whatever answers a camera's frames with disparity or depth."""

"""Encrypts every Alibaba Cloud OSS table bucket from the moment it exists."""

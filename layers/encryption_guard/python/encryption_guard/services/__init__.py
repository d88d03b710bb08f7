"""APIs of Alibaba Cloud, a module for each way in which they are signed."""

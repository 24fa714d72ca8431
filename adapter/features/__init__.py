"""From a record and images to what a model is fed: pure, and blind to everything known after the landmark."""

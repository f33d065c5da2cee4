"""An embedded farm on one machine: Redis, both workers and Flower, supervised."""

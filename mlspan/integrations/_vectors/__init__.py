"""The parts that integrations of vector databases share: each is a table of methods over one mechanism."""

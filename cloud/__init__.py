"""The cloud: ingests the steps of many robots, learns from them without stopping, sends new weights back."""

"""What turns an observation into an action: networks in torch for the cloud, in numpy for a light edge."""

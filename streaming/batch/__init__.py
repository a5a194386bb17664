"""Video question answering over a data set: jobs that resume, survive faults and lose nothing."""

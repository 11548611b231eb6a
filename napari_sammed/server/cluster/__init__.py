"""The server on several GPUs or machines: the same core in each of several replicas that Ray Serve starts and watches.

Clients talk to one `Ingress`, as to a plain server. It knows which replica has which session (`Directory`), and passes
requests on to that one (`Forwarder`); each replica (`Worker`) is a plain server behind an inner `Door`. What has to
outlive a replica lies in the data folder, which all share. Nothing here depends on how Ray Serve routes requests.
"""

"""Settings of nbgrader for the labs: it reads this file from the folder of the course."""

c = get_config()  # noqa: F821 (nbgrader defines it)
c.CourseDirectory.course_id = "aiecof"
c.Execute.timeout = 300  # seconds a cell: a lab trains small networks, and the machine may be slow
c.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR"]

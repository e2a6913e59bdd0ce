module bootwright/testkit/programs/zoo

go 1.26.0

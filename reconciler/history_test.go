package reconciler_test

import _ "pgregory.net/rapid"
